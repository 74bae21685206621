/** Debug messages.  Library code never prints: a tool's -v installs a sink, without one a message costs one comparison. */
export type LogSink = (area: string, message: string) => void;
let sink: LogSink | undefined;

export function setLogSink(s: LogSink | undefined): void {
  sink = s;
}
/** `message` is a function, so that nothing is formatted when nobody listens. */
export function debug(area: string, message: () => string): void {
  if (sink !== undefined) sink(area, message());
}

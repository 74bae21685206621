/** Reading a guest's logs: what virt-log does, without printing. */
export type { LogFilter } from './filter.js';
export { formatRecord, isoTime, LOG_FORMATS, type LogFormat, printableText } from './format.js';
export { type Boot, GuestLog, type LogOptions, type LogPosition } from './guest-log.js';
export { parsePriorities } from './priority.js';
export type { LogRecord } from './record.js';
export { parseWhen } from './when.js';

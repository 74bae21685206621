/** "[epoch:]version[-release]" as Debian and pacman write it. */
export function packageVersion(text: string): { epoch: number; version: string; release: string } {
  const colon = text.indexOf(':');
  const epoch = colon > 0 && /^[0-9]+$/.test(text.slice(0, colon)) ? Number(text.slice(0, colon)) : 0;
  const rest = colon > 0 && /^[0-9]+$/.test(text.slice(0, colon)) ? text.slice(colon + 1) : text;
  const dash = rest.lastIndexOf('-');
  return dash < 0
    ? { epoch, version: rest, release: '' }
    : { epoch, version: rest.slice(0, dash), release: rest.slice(dash + 1) };
}

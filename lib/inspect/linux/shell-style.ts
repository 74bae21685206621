/** KEY=value files as os-release(5) and /etc/default have them: quotes, escapes, comments; no expansion. */
export function parseShellStyle(text: string): ReadonlyMap<string, string> {
  const out = new Map<string, string>();
  for (const raw of text.split('\n')) {
    const line = raw.trim();
    const eq = line.indexOf('=');
    if (line.startsWith('#') || eq <= 0) continue;
    const key = line.slice(0, eq).replace(/^export\s+/, '');
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(key)) continue;
    out.set(key, unquote(line.slice(eq + 1).trim()));
  }
  return out;
}

export function unquote(v: string): string {
  const q = v[0];
  if (q === "'") return v.slice(1, v.indexOf("'", 1) < 0 ? undefined : v.indexOf("'", 1));
  if (q !== '"') return v.replace(/\s+#.*$/, '').replace(/\\(.)/g, '$1');
  let out = '';
  for (let i = 1; i < v.length && v[i] !== '"'; i++) {
    if (v[i] === '\\' && i + 1 < v.length && '$`"\\'.includes(v[i + 1]!)) i++;
    out += v[i];
  }
  return out;
}

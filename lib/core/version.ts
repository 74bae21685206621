/** Orders "6.1.0-9-amd64" before "6.1.0-13-amd64": runs of digits by value, the rest by bytes ("~" before everything). */
export function compareVersions(a: string, b: string): number {
  const parts = (s: string) => s.match(/[0-9]+|[^0-9]+/g) ?? [];
  const x = parts(a);
  const y = parts(b);
  for (let i = 0; i < Math.max(x.length, y.length); i++) {
    const p = x[i];
    const q = y[i];
    if (p === q) continue;
    if (p === undefined) return q!.startsWith('~') ? 1 : -1;
    if (q === undefined) return p.startsWith('~') ? -1 : 1;
    const digits = /^[0-9]/.test(p) && /^[0-9]/.test(q);
    const order = digits
      ? p.replace(/^0+/, '').length - q.replace(/^0+/, '').length || (p < q ? -1 : p > q ? 1 : 0)
      : weigh(p, q);
    if (order !== 0) return order;
  }
  return 0;
}
function weigh(p: string, q: string): number {
  if (p.startsWith('~') !== q.startsWith('~')) return p.startsWith('~') ? -1 : 1;
  return p < q ? -1 : 1;
}

import { type Package, present } from './package.js';

/** A snap's meta/snap.yaml: of YAML only what its top level has, "key: value" lines and lists. */
export function parseSnapYaml(text: string, fileName?: string): Package | undefined {
  const fields = new Map<string, string>();
  let key: string | undefined;
  for (const line of text.split('\n')) {
    const top = /^([A-Za-z-]+):\s*(.*)$/.exec(line);
    if (top !== null) {
      key = top[1]!;
      fields.set(key, unquote(top[2]!));
    } else if (key === 'architectures') {
      const item = /^\s*-\s*(\S.*)$/.exec(line);
      if (item !== null && fields.get(key) === '') fields.set(key, unquote(item[1]!));
    }
  }
  const name = fields.get('name') || fileName;
  const version = fields.get('version');
  if (!name || !version) return undefined;
  return present({
    format: 'snap' as const,
    name,
    epoch: 0,
    version,
    release: '',
    arch:
      fields
        .get('architectures')
        ?.replace(/^\[|\]$/g, '')
        .split(',')[0]
        ?.trim() ?? '',
    summary: fields.get('summary') || undefined,
    license: fields.get('license') || undefined,
  });
}

const unquote = (s: string) => (/^(["']).*\1$/.test(s.trim()) ? s.trim().slice(1, -1) : s.trim());

/** snapd's state.json: which revision of each snap is in use.  Its version is inside the snap, which is another filesystem. */
export function parseSnapState(text: string): Package[] {
  let state: unknown;
  try {
    state = JSON.parse(text);
  } catch {
    return [];
  }
  const snaps = (state as { data?: { snaps?: Record<string, { current?: unknown } | null> } } | null)?.data?.snaps;
  if (typeof snaps !== 'object' || snaps === null) return [];
  return Object.entries(snaps).flatMap(([name, s]) => {
    const revision = s?.current;
    if (typeof revision !== 'string' && typeof revision !== 'number') return [];
    return [{ format: 'snap' as const, name, epoch: 0, version: String(revision), release: '', arch: '' }];
  });
}

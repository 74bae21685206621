import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder with our package.json: two up in dist/lib, one up from a bundle, and so on. */
export function packageRoot(): string {
  let dir = dirname(fileURLToPath(import.meta.url));
  for (let i = 0; i < 8; i++) {
    const file = join(dir, 'package.json');
    if (existsSync(file) && readFileSync(file, 'utf8').includes('"name": "guestwright"')) return dir;
    dir = dirname(dir);
  }
  return dirname(fileURLToPath(import.meta.url));
}

export type AddonState = { readonly loaded: true; readonly path: string } | { readonly loaded: false; readonly reason: string };

const states = new Map<string, AddonState>();

/**
 * Loads one native target (`sysio`, `codec`, …) or says why not.  Everything that reads works without it;
 * `GUESTWRIGHT_NO_ADDON=1` forces the pure TypeScript stand-ins.
 */
export function loadTarget<T>(name: string): T | undefined {
  if (process.env['GUESTWRIGHT_NO_ADDON']) {
    states.set(name, { loaded: false, reason: 'switched off by GUESTWRIGHT_NO_ADDON' });
    return undefined;
  }
  const path = join(packageRoot(), 'native', 'build', 'Release', `${name}.node`);
  if (!existsSync(path)) {
    states.set(name, { loaded: false, reason: `${path} is not built (npm run build:native)` });
    return undefined;
  }
  try {
    const addon = createRequire(import.meta.url)(path) as T;
    states.set(name, { loaded: true, path });
    return addon;
  } catch (e) {
    states.set(name, { loaded: false, reason: e instanceof Error ? e.message.split('\n')[0]! : String(e) });
    return undefined;
  }
}

/** For `guestwright doctor`. */
export const addonState = (name: string): AddonState => states.get(name) ?? { loaded: false, reason: 'not asked for yet' };

import { readdirSync, readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { expect, it } from 'vitest';

const LIB = resolve(import.meta.dirname, '../lib');

/** Who may import whom: the table in ARCHITECTURE.md. */
const MAY: Readonly<Record<string, readonly string[]>> = {
  core: [],
  addon: ['core'],
  block: ['core', 'addon'],
  crypto: ['core', 'addon', 'block'],
  image: ['core', 'addon', 'block', 'crypto'],
  volume: ['core', 'addon', 'block', 'crypto'],
  partition: ['core', 'addon', 'block'],
  filesystem: ['core', 'addon', 'block'],
  artifact: ['core', 'block'],
  storage: ['core', 'block', 'crypto', 'image', 'partition', 'volume', 'filesystem'],
  inspect: ['core', 'storage', 'filesystem', 'artifact'],
  vm: ['core', 'addon', 'block', 'image'],
  export: ['core', 'addon', 'block', 'image', 'storage', 'filesystem'],
  appliance: ['core', 'addon', 'block', 'vm', 'export'],
  handle: ['core', 'block', 'storage', 'inspect', 'artifact', 'appliance'],
  ops: ['core', 'addon', 'block', 'storage', 'filesystem', 'handle', 'inspect', 'artifact', 'image', 'vm', 'export'],
};

/** Folders in which siblings must not import each other: each driver stands alone. */
const SIBLINGS = ['image', 'volume', 'partition', 'filesystem'];

const files = readdirSync(LIB, { recursive: true, encoding: 'utf8' }).filter((f) => f.endsWith('.ts'));

it('imports point down the layers only, and drivers do not import each other', () => {
  const wrong: string[] = [];
  for (const file of files) {
    const [folder, driver, ...rest] = file.split('/');
    if (driver === undefined) continue;
    const text = readFileSync(join(LIB, file), 'utf8');
    for (const m of text.matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)) {
      const target = relative(LIB, resolve(LIB, file, '..', m[1]!));
      const [other, otherDriver, ...otherRest] = target.split('/');
      if (other === folder) {
        const bothDrivers = rest.length > 0 && otherRest.length > 0;
        if (SIBLINGS.includes(folder!) && bothDrivers && driver !== otherDriver)
          wrong.push(`${file}: ${driver} may not import its sibling ${otherDriver}`);
      } else if (!MAY[folder!]?.includes(other!)) wrong.push(`${file}: ${folder} may not import ${other}`);
    }
  }
  expect(wrong).toEqual([]);
  expect(files.length).toBeGreaterThan(10);
});

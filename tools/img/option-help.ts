import { formatByName, GuestError } from '../../lib/index.js';
import { out } from '../shared/output.js';

const TYPES = { size: 'size', number: 'num', string: 'str', 'on/off': 'bool (on/off)' } as const;

function print(
  list: readonly {
    readonly name: string;
    readonly type: keyof typeof TYPES;
    readonly help: string;
    readonly values?: readonly string[];
  }[],
) {
  for (const o of [...list].sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const head = `  ${o.name}=<${TYPES[o.type]}>`.padEnd(24);
    out.line(
      `${head} - ${o.help}${o.values === undefined || o.values.some((v) => o.help.includes(v)) ? '' : ` (${o.values.join(', ')})`}`,
    );
  }
}

/** `-o help` of create and convert. */
export function createHelp(format: string): number {
  const f = formatByName(format);
  if (f.createOptions === undefined) throw new GuestError('unsupported', `${f.name} images cannot be made`);
  out.line(`Supported ${f.name} options:`);
  print(f.createOptions);
  return 0;
}

/** `amend -o help`. */
export function amendHelp(format: string): number {
  if (formatByName(format).name !== 'qcow2') throw new GuestError('unsupported', `options of ${format} images cannot be amended`);
  out.line("Amend options for 'qcow2':");
  print([
    { name: 'backing_file', type: 'string', help: 'file name of the image below' },
    { name: 'backing_fmt', type: 'string', help: 'format of the image below' },
    { name: 'compat', type: 'string', help: 'format version: v2 (0.10) or v3 (1.1)' },
    { name: 'data_file', type: 'string', help: 'file name of an external data file' },
    { name: 'data_file_raw', type: 'on/off', help: 'the external data file stays valid as a raw image' },
    { name: 'encrypt.iter-time', type: 'number', help: 'milliseconds that one try of the passphrase takes' },
    { name: 'encrypt.keyslot', type: 'number', help: 'key slot to change' },
    { name: 'encrypt.new-secret', type: 'string', help: 'id of the secret with the new passphrase' },
    { name: 'encrypt.old-secret', type: 'string', help: 'id of the secret whose key slots are erased' },
    { name: 'encrypt.state', type: 'string', help: 'new state of the key slots', values: ['active', 'inactive'] },
    { name: 'lazy_refcounts', type: 'on/off', help: 'postpone refcount updates' },
    { name: 'refcount_bits', type: 'number', help: 'width of a refcount in bits: 1 to 64' },
    { name: 'size', type: 'size', help: 'virtual disk size' },
  ]);
  return 0;
}

import { openFile } from '../../block/file.js';
import { usage } from '../../core/errors.js';
import { parseOptions } from './options.js';

const MAX_SECRET = 1 << 20;

/** `--object secret,id=…,data=…|file=…[,format=raw|base64]`. */
export class Secrets {
  readonly #all = new Map<string, () => Uint8Array>();

  add(definition: string): void {
    const o = parseOptions(definition, 'qom-type');
    const type = o.get('qom-type');
    if (type !== 'secret') throw usage(`--object ${type ?? ''}: only "secret" objects are of use here`);
    const id = o.get('id');
    if (id === undefined || id === '') throw usage('--object secret: it needs an id');
    const data = o.get('data');
    const path = o.get('file');
    const format = o.get('format') ?? 'raw';
    for (const key of o.keys())
      if (!['qom-type', 'id', 'data', 'file', 'format'].includes(key))
        throw usage(`--object secret: "${key}" is not supported (id, data, file, format)`);
    if (format !== 'raw' && format !== 'base64') throw usage(`--object secret: format "${format}" is not known (raw, base64)`);
    if ((data === undefined) === (path === undefined)) throw usage('--object secret: give either data or file');
    this.#all.set(id, () => {
      const bytes = path === undefined ? Buffer.from(data!) : readSecret(path);
      return format === 'base64' ? Buffer.from(Buffer.from(bytes).toString('latin1'), 'base64') : bytes;
    });
  }

  get(id: string): Uint8Array {
    const make = this.#all.get(id);
    if (make === undefined) throw usage(`no secret with id "${id}" (--object secret,id=${id},…)`);
    return make();
  }
}

function readSecret(path: string): Uint8Array {
  const f = openFile(path);
  try {
    if (f.size > MAX_SECRET) throw usage(`${path}: a secret of ${f.size} bytes is larger than 1 MiB`);
    const b = new Uint8Array(f.size);
    f.read(b, 0);
    return b;
  } finally {
    f.close();
  }
}

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fromSystem } from '../../core/errors.js';
import type { NbdTls } from './server.js';

/** Certificates in a folder, by the names that QEMU and GnuTLS tools use: server-cert.pem, server-key.pem, ca-cert.pem. */
export function tlsFromFolder(dir: string, options: { readonly require: boolean; readonly verifyPeer: boolean }): NbdTls {
  const file = (name: string): Buffer => {
    try {
      return readFileSync(join(dir, name));
    } catch (e) {
      throw fromSystem(e, { path: join(dir, name) });
    }
  };
  return {
    mode: options.require ? 'require' : 'offer',
    cert: file('server-cert.pem'),
    key: file('server-key.pem'),
    ...(options.verifyPeer ? { ca: file('ca-cert.pem') } : {}),
    verifyPeer: options.verifyPeer,
  };
}

import { type GuestError, usage } from '../core/errors.js';
import { DEFAULT_PORT, MAX_STRING } from './nbd-protocol.js';

/** Where an NBD export is, and how to get there. */
export interface NbdTarget {
  readonly host?: string;
  readonly port?: number;
  readonly socket?: string;
  readonly export: string;
  readonly tls: boolean;
  /** Folder with ca-cert.pem, and client-cert.pem and client-key.pem where the server asks for them. */
  readonly tlsCertificates?: string;
  /** The name that the server's certificate must have; the host's unless given. */
  readonly tlsHostname?: string;
  readonly tlsVerifyPeer?: boolean;
}

export const isNbdUri = (name: string): boolean => /^nbds?(\+unix)?:\/\//i.test(name) || /^nbd:/i.test(name);

/**
 * nbd://host[:port]/export, nbds://… (TLS), nbd+unix:///export?socket=PATH, and QEMU's older nbd:host:port[:exportname=…]
 * and nbd:unix:PATH[:exportname=…].  https://github.com/NetworkBlockDevice/nbd/blob/master/doc/uri.md
 */
export function parseNbdUri(uri: string): NbdTarget {
  const bad = (why: string) => usage(`"${uri}" is not an NBD address: ${why}`);
  if (!/^nbds?(\+unix)?:\/\//i.test(uri)) {
    const m = /^nbd:(?:unix:(?<path>.+?)|(?<host>\[[^\]]+\]|[^:]*):(?<port>[0-9]+))(?::exportname=(?<name>.*))?$/i.exec(uri);
    if (m === null) throw bad('expected nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH');
    const { path, host, port, name } = m.groups!;
    const where =
      path !== undefined ? { socket: path } : { host: unbracket(host!) || 'localhost', port: checkPort(Number(port), bad) };
    return { ...where, export: checkName(name ?? '', bad), tls: false };
  }
  // A scheme that URL does not know has no host of its own parsing rules: "nbd+unix:///x" would lose its slashes.
  const m = /^(?<scheme>nbds?(?:\+unix)?):\/\/(?<authority>[^/?#]*)(?<path>\/[^?#]*)?(?:\?(?<query>[^#]*))?$/i.exec(uri);
  if (m === null) throw bad('expected nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH');
  const { scheme, authority, path, query } = m.groups!;
  const parameters = new Map<string, string>();
  for (const part of (query ?? '').split('&')) {
    if (part === '') continue;
    const eq = part.indexOf('=');
    parameters.set(decode(eq < 0 ? part : part.slice(0, eq), bad), eq < 0 ? '' : decode(part.slice(eq + 1), bad));
  }
  // "nbd://host//name" names an export that begins with a slash.
  const name = checkName(decode((path ?? '').slice(1), bad), bad);
  const tls = /^nbds/i.test(scheme!);
  const common = {
    export: name,
    tls,
    ...(parameters.has('tls-certificates') ? { tlsCertificates: parameters.get('tls-certificates')! } : {}),
    ...(parameters.has('tls-hostname') ? { tlsHostname: parameters.get('tls-hostname')! } : {}),
    ...(parameters.get('tls-verify-peer') === 'false' ? { tlsVerifyPeer: false } : {}),
  };
  const host = authority!.replace(/^[^@]*@/, '');
  const socket = parameters.get('socket');
  if (/\+unix$/i.test(scheme!)) {
    if (socket === undefined || socket === '') throw bad('the path of the socket is missing (?socket=PATH)');
    if (host !== '') throw bad(`a unix socket has no host ("${host}")`);
    return { ...common, socket };
  }
  if (socket !== undefined) throw bad('socket=PATH is for nbd+unix://');
  const h = /^(?<name>\[[0-9a-fA-F:.]+\]|[^:[\]]*)(?::(?<port>[0-9]+))?$/.exec(host);
  if (h === null) throw bad(`"${host}" is not HOST[:PORT]`);
  const port = h.groups!['port'];
  return {
    ...common,
    host: unbracket(decode(h.groups!['name']!, bad)) || 'localhost',
    port: port === undefined ? DEFAULT_PORT : checkPort(Number(port), bad),
  };
}

const unbracket = (host: string) => host.replace(/^\[(.*)\]$/, '$1');
function checkPort(port: number, bad: (why: string) => GuestError): number {
  if (port < 1 || port > 65535) throw bad(`port ${port} is not 1 to 65535`);
  return port;
}
function checkName(name: string, bad: (why: string) => GuestError): string {
  if (Buffer.byteLength(name) > MAX_STRING) throw bad(`the export name is longer than ${MAX_STRING} bytes`);
  return name;
}
function decode(s: string, bad: (why: string) => GuestError): string {
  try {
    return decodeURIComponent(s);
  } catch {
    throw bad(`"${s}" has a bad % escape`);
  }
}

/** The other way: the address of an export. */
export function formatNbdUri(t: Pick<NbdTarget, 'host' | 'port' | 'socket' | 'export' | 'tls'>): string {
  const scheme = t.tls ? 'nbds' : 'nbd';
  const name = t.export.split('/').map(encodeURIComponent).join('/');
  if (t.socket !== undefined) return `${scheme}+unix:///${name}?socket=${t.socket.split('/').map(encodeURIComponent).join('/')}`;
  const host = t.host!.includes(':') ? `[${t.host}]` : t.host!;
  return `${scheme}://${host}${t.port === DEFAULT_PORT ? '' : `:${t.port}`}/${name}`;
}

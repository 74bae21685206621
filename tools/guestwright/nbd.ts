import { spawn } from 'node:child_process';
import { closeSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { type Command, Option } from 'commander';
import {
  formatNbdUri,
  GuestError,
  type ListedExport,
  listNbdExports,
  type NbdAddress,
  NbdServer,
  type NbdTarget,
  type NbdTls,
  openExport,
  parseNbdUri,
  parseSize,
  setLogSink,
  tlsFromFolder,
} from '../../lib/index.js';
import { ToolKeys } from '../shared/keys.js';
import { json, out, printable, warn, writeAll } from '../shared/output.js';
import { common, jsonOption, type Tool } from '../shared/tool.js';

interface Settings {
  format?: string;
  readOnly: boolean;
  overlay: boolean;
  snapshot?: string;
  socket?: string;
  bind?: string;
  port?: number;
  name: string;
  description?: string;
  offset?: number;
  partition?: number;
  device?: string;
  shared?: number;
  persistent: boolean;
  bitmaps: string[];
  discard: boolean;
  writeThrough: boolean;
  handshakeLimit: number;
  pidFile?: string;
  fork: boolean;
  list: boolean;
  objects: Map<string, ReadonlyMap<string, string>>;
  tlsCreds?: string;
  tlsCertificates?: string;
}

/** systemd's first passed descriptor: how nbdcopy and nbdinfo start a server of their own. */
const LISTEN_FD = 3;
/** A server in the background says on this descriptor that clients can connect. */
const READY_FD = 3;
const READY = 'GUESTWRIGHT_NBD_READY';

export const tool: Tool = {
  name: 'guestwright nbd',
  summary: 'export an image, or a part of one, over NBD',
  usage: ['guestwright nbd [OPTIONS] IMAGE', 'guestwright nbd --list [-k SOCKET | -b HOST -p PORT | URI]'],
  examples: [
    ['on a unix socket, for reading only, until the last client leaves', 'guestwright nbd -r -k /tmp/disk.sock disk.qcow2'],
    ['the second partition, over TCP on this host only, until Ctrl-C', 'guestwright nbd -r -t -P 2 disk.qcow2'],
    ['a logical volume', 'guestwright nbd -r --device /dev/vg/root disk.qcow2'],
    ['writes that are thrown away at the end', 'guestwright nbd -s -t -k /tmp/disk.sock disk.qcow2'],
    ['what does a server have?', 'guestwright nbd --list nbd://host/'],
  ],
  notes: [
    'Without -k, the server listens on 127.0.0.1, port 10809; -b 0.0.0.0 lets other hosts in.',
    'A writable export serves one client at a time unless -e says otherwise; a read-only one serves all who come.',
  ],
  setup(command) {
    const s: Settings = {
      readOnly: false,
      overlay: false,
      name: '',
      persistent: false,
      bitmaps: [],
      discard: true,
      writeThrough: false,
      handshakeLimit: 10,
      fork: false,
      list: false,
      objects: new Map(),
    };
    const keys = new ToolKeys();
    options(command, s);
    keys.addOptions(command);
    jsonOption(command);
    return async (args) => {
      if (s.list) return list(s, args);
      const [image, ...more] = args;
      if (image === undefined) throw new GuestError('usage', 'no image is named');
      if (more.length > 0) throw new GuestError('usage', `one image at a time ("${more[0]}" is too many)`);
      if (s.fork) return background(s);
      return serve(s, image, keys);
    };
  },
};

function options(command: Command, s: Settings): void {
  const value = (flags: string, help: string, then: (v: string) => void) =>
    command.addOption(
      new Option(flags, help).argParser((v: string) => {
        then(v);
        return v;
      }),
    );
  const flag = (flags: string, help: string, then: () => void) =>
    command.addOption(
      new Option(flags, help).argParser(() => {
        then();
        return true;
      }),
    );
  const number = (option: string, v: string, least: number, most: number): number => {
    if (!/^[0-9]+$/.test(v) || Number(v) < least || Number(v) > most)
      throw new GuestError('usage', `${option}: "${v}" is not a number from ${least} to ${most}`);
    return Number(v);
  };
  const oneOf = (option: string, v: string, values: readonly string[]): string => {
    if (!values.includes(v)) throw new GuestError('usage', `${option}: "${v}" is not one of ${values.join(', ')}`);
    return v;
  };
  value('-f, --format <fmt>', 'image format; without it the contents tell', (v) => {
    s.format = v;
  });
  flag('-r, --read-only', 'export for reading only', () => {
    s.readOnly = true;
  });
  flag('-s, --snapshot', 'writes go to a temporary overlay and are thrown away', () => {
    s.overlay = true;
  });
  value('-l, --load-snapshot <snapshot>', 'export an internal snapshot (id, name, snapshot.id=ID,snapshot.name=NAME)', (v) => {
    s.snapshot = v;
  });
  value('-P, --partition <n>', 'export one partition', (v) => {
    s.partition = number('--partition', v, 1, 1024);
  });
  value('--device <device>', 'export a device on the disk: /dev/sda1, /dev/vg/lv, UUID=…', (v) => {
    s.device = v;
  });
  value('-o, --offset <bytes>', 'export the image from this byte on', (v) => {
    s.offset = parseSize(v, '--offset');
  });
  value('-k, --socket <path>', 'listen on a unix socket', (v) => {
    s.socket = resolve(v);
  });
  value('-b, --bind <address>', 'listen on this address (127.0.0.1)', (v) => {
    s.bind = v;
  });
  value('-p, --port <port>', 'listen on this port (10809; 0: any that is free)', (v) => {
    s.port = number('--port', v, 0, 65535);
  });
  value('-x, --export-name <name>', 'name of the export (empty)', (v) => {
    if (Buffer.byteLength(v) > 4096) throw new GuestError('usage', '--export-name: longer than 4096 bytes');
    s.name = v;
  });
  value('-D, --description <text>', 'what the export is, for people', (v) => {
    if (Buffer.byteLength(v) > 4096) throw new GuestError('usage', '--description: longer than 4096 bytes');
    s.description = v;
  });
  value('-e, --shared <n>', 'clients at a time; 0: no limit (writable: 1, read-only: 0)', (v) => {
    s.shared = number('--shared', v, 0, 512);
  });
  flag('-t, --persistent', 'go on when the last client has left', () => {
    s.persistent = true;
  });
  flag('-A, --allocation-depth', 'tell the depth in the backing chain (always done)', () => {});
  value('-B, --bitmap <name>', 'tell a persistent dirty bitmap of a qcow2 image (may be repeated)', (v) => {
    s.bitmaps.push(v);
  });
  value('--discard <mode>', 'trim requests: unmap (default) or ignore', (v) => {
    s.discard = ['unmap', 'on'].includes(oneOf('--discard', v, ['ignore', 'off', 'unmap', 'on']));
  });
  value('--cache <mode>', 'writethrough: every write is on stable storage before its answer', (v) => {
    const known = ['none', 'writeback', 'writethrough', 'directsync', 'unsafe'];
    s.writeThrough = ['writethrough', 'directsync'].includes(oneOf('--cache', v, known));
  });
  flag('-n, --nocache', 'as --cache=none', () => {});
  value('--aio <mode>', 'accepted for scripts that give it', (v) => oneOf('--aio', v, ['native', 'io_uring', 'threads']));
  value('--detect-zeroes <mode>', 'accepted for scripts that give it', (v) =>
    oneOf('--detect-zeroes', v, ['off', 'on', 'unmap']),
  );
  value('--handshake-limit <seconds>', 'clients must choose an export in this time; 0: no limit (10)', (v) => {
    s.handshakeLimit = number('--handshake-limit', v, 0, 86_400);
  });
  value('--tls-certificates <dir>', 'require TLS, with server-cert.pem and server-key.pem of this folder', (v) => {
    s.tlsCertificates = v;
  });
  value('--object <definition>', 'tls-creds-x509,id=ID,endpoint=server,dir=DIR[,verify-peer=on|off]', (v) => {
    const [type, ...pairs] = v.split(',');
    const o = new Map(pairs.map((p) => p.split(/=(.*)/s, 2) as [string, string]));
    if (type !== 'tls-creds-x509') throw new GuestError('usage', `--object: "${type}" is not supported (tls-creds-x509)`);
    const id = o.get('id');
    if (id === undefined || !o.has('dir')) throw new GuestError('usage', '--object: it needs id=ID and dir=DIR');
    s.objects.set(id, o);
  });
  value('--tls-creds <id>', 'require TLS, with the credentials of this --object', (v) => {
    s.tlsCreds = v;
  });
  value('--pid-file <path>', 'write the process id to a file', (v) => {
    s.pidFile = resolve(v);
  });
  flag('--fork', 'go to the background when clients can connect', () => {
    s.fork = true;
  });
  flag('-L, --list', 'list the exports of a server', () => {
    s.list = true;
  });
}

function tlsOf(s: Settings): NbdTls | undefined {
  if (s.tlsCertificates !== undefined) return tlsFromFolder(s.tlsCertificates, { require: true, verifyPeer: false });
  if (s.tlsCreds === undefined) return undefined;
  const o = s.objects.get(s.tlsCreds);
  if (o === undefined) throw new GuestError('usage', `--tls-creds: there is no --object with id "${s.tlsCreds}"`);
  return tlsFromFolder(o.get('dir')!, { require: true, verifyPeer: (o.get('verify-peer') ?? 'on') === 'on' });
}

async function serve(s: Settings, image: string, keys: ToolKeys): Promise<number> {
  const inherited = inheritedSocket();
  if (s.socket !== undefined && (s.bind !== undefined || s.port !== undefined))
    throw new GuestError('usage', 'a unix socket (-k) has no address or port (-b, -p)');
  const tls = tlsOf(s);
  const readOnly = s.readOnly || s.snapshot !== undefined;
  const shared = s.shared ?? (readOnly ? 0 : 1);
  const e = openExport({
    image,
    name: s.name,
    readOnly,
    overlay: s.overlay,
    bitmaps: s.bitmaps,
    discard: s.discard,
    writeThrough: s.writeThrough,
    multiConn: shared !== 1,
    keys,
    ...(s.description === undefined ? {} : { description: s.description }),
    ...(s.format === undefined ? {} : { format: s.format }),
    ...(s.snapshot === undefined ? {} : { snapshot: s.snapshot }),
    ...(s.offset === undefined ? {} : { offset: s.offset }),
    ...(s.partition === undefined ? {} : { partition: s.partition }),
    ...(s.device === undefined ? {} : { device: s.device }),
  });
  if (e.guarded)
    warn(
      `warning: ${image}: the format was not given and guessed to be raw; writes that would make it look like another one are refused (-f raw allows them)`,
    );
  let stop: () => void = () => {};
  const stopped = new Promise<void>((done) => {
    stop = done;
  });
  const server = new NbdServer({
    exports: [e],
    maxClients: shared,
    handshakeLimitMs: s.handshakeLimit * 1000,
    onIdle: () => {
      if (!s.persistent) stop();
    },
    ...(tls === undefined ? {} : { tls }),
  });
  // Before anything is made that would be left behind.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, stop);
  try {
    const wanted: NbdAddress =
      inherited ?? (s.socket !== undefined ? { path: s.socket } : { host: s.bind ?? '127.0.0.1', port: s.port ?? 10809 });
    const bound = await server.listen(wanted);
    if (s.pidFile !== undefined) writeFileSync(s.pidFile, `${process.pid}\n`);
    announce(s, bound, tls !== undefined, e);
    await stopped;
  } finally {
    await server.stop();
    try {
      e.close();
    } finally {
      if (s.pidFile !== undefined) rmSync(s.pidFile, { force: true });
    }
  }
  return 0;
}

function announce(
  s: Settings,
  bound: NbdAddress,
  tls: boolean,
  e: { source: { size: number }; readOnly: boolean; format: string },
): void {
  const uri =
    'fd' in bound
      ? undefined
      : formatNbdUri({
          export: s.name,
          tls,
          ...('path' in bound ? { socket: bound.path } : { host: bound.host, port: bound.port }),
        });
  if (common.json)
    out.line(
      json({
        ...(uri === undefined ? {} : { uri }),
        ...('path' in bound ? { socket: bound.path } : 'fd' in bound ? {} : { host: bound.host, port: bound.port }),
        export: s.name,
        size: e.source.size,
        readOnly: e.readOnly,
        format: e.format,
        pid: process.pid,
      }).replaceAll(/\n\s*/g, ' '),
    );
  else if (uri !== undefined && process.stdout.isTTY) out.line(`${uri}\n(Ctrl-C ends it)`);
  out.flush();
  if (process.env[READY] === undefined) return;
  delete process.env[READY];
  // From here on nobody reads what we print.
  setLogSink(undefined);
  writeSync(READY_FD, 'ready\n');
  closeSync(READY_FD);
}

/** The socket that systemd, or a libnbd tool, opened for us. */
function inheritedSocket(): NbdAddress | undefined {
  if (process.env['LISTEN_PID'] !== String(process.pid)) return undefined;
  const count = process.env['LISTEN_FDS'];
  if (count !== '1') throw new GuestError('usage', `socket activation with ${count ?? 'no'} sockets (expected 1)`);
  delete process.env['LISTEN_PID'];
  delete process.env['LISTEN_FDS'];
  return { fd: LISTEN_FD };
}

/** Starts the same command without --fork, passes on what it says until it is ready, and leaves. */
async function background(s: Settings): Promise<number> {
  if (s.socket === undefined && s.port === 0 && !common.json) warn('warning: --fork with -p 0: add --json to learn the port');
  const child = spawn(process.execPath, [process.argv[1]!, ...process.argv.slice(2).filter((a) => a !== '--fork')], {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    env: { ...process.env, [READY]: '1' },
  });
  // Not handed on as they are: whoever reads our output would wait for the server's end.
  child.stdout!.on('data', (b: Uint8Array) => out.write(b));
  child.stderr!.on('data', (b: Uint8Array) => writeAll(2, b));
  return new Promise((done, fail) => {
    child.once('error', fail);
    child.once('close', (status) => done(status ?? 1));
    (child.stdio[READY_FD] as Readable).once('data', () => setImmediate(() => done(0)));
  });
}

async function list(s: Settings, args: readonly string[]): Promise<number> {
  const uri = args[0];
  const tls = s.tlsCertificates !== undefined || s.tlsCreds !== undefined;
  const dir = s.tlsCertificates ?? s.objects.get(s.tlsCreds ?? '')?.get('dir');
  const target: NbdTarget =
    uri !== undefined
      ? parseNbdUri(uri)
      : {
          export: '',
          tls,
          ...(dir === undefined ? {} : { tlsCertificates: dir }),
          ...(s.socket === undefined ? { host: s.bind ?? 'localhost', port: s.port ?? 10809 } : { socket: s.socket }),
        };
  const found = await listNbdExports(target);
  if (common.json) {
    out.line(json({ exports: found.map((e) => ({ ...e, ...(e.flags === undefined ? {} : { flags: flagNames(e.flags) }) })) }));
    return 0;
  }
  out.line(`exports available: ${found.length}`);
  for (const e of found) print(e);
  return 0;
}

const FLAGS = [
  'has-flags',
  'read-only',
  'flush',
  'fua',
  'rotational',
  'trim',
  'zeroes',
  'df',
  'multi',
  'resize',
  'cache',
  'fast-zero',
  'block-status-payload',
];
const flagNames = (flags: number): string[] => FLAGS.filter((_, i) => i > 0 && (flags & (1 << i)) !== 0);

function print(e: ListedExport): void {
  out.line(` export: '${printable(e.name)}'`);
  if (e.description !== undefined && e.description !== '') out.line(`  description: ${printable(e.description)}`);
  if (e.problem !== undefined) {
    out.line(`  ${printable(e.problem)}`);
    return;
  }
  out.line(`  size:  ${e.size}`);
  out.line(`  flags: 0x${e.flags!.toString(16)} ( ${flagNames(e.flags!).join(' ')} )`);
  out.line(`  min block: ${e.minimumBlock}`);
  out.line(`  opt block: ${e.preferredBlock}`);
  out.line(`  max block: ${e.maximumBlock}`);
  if (e.contexts.length > 0) out.line(`  available meta contexts: ${e.contexts.length}`);
  for (const c of e.contexts) out.line(`   ${printable(c)}`);
}

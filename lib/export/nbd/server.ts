import { rmSync, statSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { isWritable } from '../../block/source.js';
import { explain, fromSystem, GuestError } from '../../core/errors.js';
import { debug } from '../../core/log.js';
import type { NbdExport } from './export.js';
import { NbdSession } from './session.js';

export interface NbdTls {
  readonly mode: 'offer' | 'require';
  readonly cert: string | Uint8Array;
  readonly key: string | Uint8Array;
  readonly ca?: string | Uint8Array;
  /** Only clients with a certificate of `ca`. */
  readonly verifyPeer?: boolean;
}

export interface NbdServerOptions {
  readonly exports: readonly NbdExport[];
  readonly tls?: NbdTls;
  /** Clients served at once; others wait their turn.  0: no limit but our own. */
  readonly maxClients?: number;
  /** A client that has not agreed on an export by then is sent away; 0: never. */
  readonly handshakeLimitMs?: number;
  /** The last client that had an export has gone. */
  onIdle?(): void;
}

export type NbdAddress = { readonly path: string } | { readonly host: string; readonly port: number } | { readonly fd: number };

/** Sockets held at once, waiting ones included. */
const MAX_SOCKETS = 512;
/** The engine is synchronous: after so many milliseconds of one client's work the others have their turn. */
const SLICE_MS = 4;
/** Bytes read ahead of what a client may wait for. */
const READ_AHEAD = 1 << 20;

/** Serves exports on unix or TCP sockets. */
export class NbdServer {
  readonly #server: Server;
  readonly #active = new Set<Connection>();
  readonly #waiting: Socket[] = [];
  #stopping = false;
  #path: string | undefined;

  constructor(readonly options: NbdServerOptions) {
    this.#server = createServer({ pauseOnConnect: true, noDelay: true, highWaterMark: 1 << 20 }, (s) => this.#accept(s));
    this.#server.maxConnections = MAX_SOCKETS;
  }

  /** Listens; gives the address in use (port 0 takes a free one). */
  async listen(address: NbdAddress): Promise<NbdAddress> {
    if ('path' in address) await removeStale(address.path);
    await new Promise<void>((resolve, reject) => {
      const where =
        'path' in address ? address.path : 'fd' in address ? `descriptor ${address.fd}` : `${address.host}:${address.port}`;
      this.#server.once('error', (e) => reject(listenError(e, where)));
      this.#server.listen(address, () => resolve());
    });
    // Accepting can fail for a while (no descriptors left); that is no reason to die.
    this.#server.on('error', (e) => debug('nbd', () => `server: ${explain(e)}`));
    if ('path' in address) this.#path = address.path;
    const bound = this.#server.address();
    return typeof bound === 'object' && bound !== null ? { host: (bound as AddressInfo).address, port: bound.port } : address;
  }

  get clients(): number {
    return this.#active.size;
  }

  #accept(socket: Socket): void {
    socket.on('error', (e) => debug('nbd', () => `client: ${e.message}`));
    if (this.#stopping) {
      socket.destroy();
      return;
    }
    this.#waiting.push(socket);
    this.#admit();
  }

  #admit(): void {
    const most = this.options.maxClients ?? 0;
    while (this.#waiting.length > 0 && (most === 0 || this.#active.size < most)) {
      const socket = this.#waiting.shift()!;
      if (socket.destroyed) continue;
      const c = new Connection(
        socket,
        this.options,
        () => this.#stopping,
        (negotiated) => this.#gone(c, negotiated),
      );
      this.#active.add(c);
      debug('nbd', () => `client connected (${this.#active.size})`);
      c.start();
    }
  }

  #gone(c: Connection, negotiated: boolean): void {
    this.#active.delete(c);
    debug('nbd', () => `client gone (${this.#active.size} left)`);
    this.#admit();
    if (this.#active.size > 0 || !negotiated) return;
    // A client may leave without a flush; what it wrote is still meant to last.
    this.#flush();
    if (!this.#stopping) this.options.onIdle?.();
  }

  #flush(): void {
    for (const e of this.options.exports)
      if (!e.readOnly && isWritable(e.source))
        try {
          e.source.flush();
        } catch (error) {
          debug('nbd', () => `flush: ${explain(error)}`);
        }
  }

  /** No new clients; requests that are in work end, later ones are told ESHUTDOWN.  The exports are the caller's to close. */
  async stop(): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    for (const s of this.#waiting) s.destroy();
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const c of [...this.#active]) c.shutDown();
    await closed;
    if (this.#path !== undefined) rmSync(this.#path, { force: true });
  }
}

/** A socket file that nobody listens on any more stands in the way of a new server. */
async function removeStale(path: string): Promise<void> {
  try {
    if (!statSync(path).isSocket()) return;
  } catch {
    return;
  }
  const alive = await new Promise<boolean>((resolve) => {
    const s = connect(path, () => {
      s.destroy();
      resolve(true);
    });
    s.on('error', (e: NodeJS.ErrnoException) => resolve(e.code !== 'ECONNREFUSED'));
  });
  if (!alive) rmSync(path, { force: true });
}

function listenError(e: Error, where: string): unknown {
  const code = (e as NodeJS.ErrnoException).code;
  if (code === 'EADDRINUSE') return new GuestError('in-use', 'the address is in use', { path: where, errno: code });
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND')
    return new GuestError('not-found', 'no such address on this host', { path: where, errno: code });
  return fromSystem(e, { path: where, op: 'listen' });
}

/** One client's socket and its session: moves bytes, keeps both sides' buffers bounded, shares the event loop. */
class Connection {
  #session: NbdSession;
  #timer: NodeJS.Timeout | undefined;
  #busy = false;
  #over = false;
  #negotiated = false;

  constructor(
    private socket: Socket | TLSSocket,
    private readonly options: NbdServerOptions,
    private readonly stopping: () => boolean,
    private readonly gone: (negotiated: boolean) => void,
  ) {
    this.#session = this.#newSession(false);
  }

  #newSession(secure: boolean, clientFlags?: number): NbdSession {
    return new NbdSession(
      {
        exports: this.options.exports,
        tls: this.options.tls?.mode ?? 'none',
        secure,
        stopping: this.stopping,
        ...(clientFlags === undefined ? {} : { clientFlags }),
      },
      (b) => {
        if (!this.#over) this.socket.write(b);
      },
    );
  }

  start(): void {
    const limit = this.options.handshakeLimitMs ?? 10_000;
    if (limit > 0) {
      this.#timer = setTimeout(() => {
        debug('nbd', () => `client sent away: no export chosen within ${limit / 1000} s`);
        this.socket.destroy();
      }, limit);
    }
    this.#attach(this.socket);
    this.#pump();
  }

  readonly #onData = (b: Uint8Array): void => {
    this.#session.push(b);
    this.#pump();
  };
  readonly #onDrain = (): void => {
    if (!this.#waitsForDrain) return;
    this.#waitsForDrain = false;
    this.#busy = false;
    this.#pump();
  };
  readonly #onEnd = (): void => this.#finish();

  #attach(socket: Socket | TLSSocket): void {
    socket.on('data', this.#onData).on('drain', this.#onDrain).on('end', this.#onEnd).on('close', this.#onEnd);
    socket.resume();
  }
  #waitsForDrain = false;

  #pump(): void {
    if (this.#busy || this.#over) return;
    this.#busy = true;
    const until = performance.now() + SLICE_MS;
    const socket = this.socket;
    socket.cork();
    try {
      for (;;) {
        if (socket.writableNeedDrain) {
          // A client that does not read its answers gets no further ones, and is not listened to.
          this.#waitsForDrain = true;
          socket.pause();
          return;
        }
        const step = this.#session.step();
        if (this.#session.agreement !== undefined && !this.#negotiated) {
          this.#negotiated = true;
          clearTimeout(this.#timer);
        }
        if (step === 'wait') {
          this.#busy = false;
          socket.resume();
          return;
        }
        if (step === 'end') {
          // Left busy: nothing more is done for this client.
          socket.end();
          this.#linger();
          return;
        }
        if (step === 'starttls') {
          this.#startTls();
          return;
        }
        if (performance.now() > until) {
          if (this.#session.buffered > READ_AHEAD) socket.pause();
          setImmediate(() => {
            this.#busy = false;
            this.#pump();
          });
          return;
        }
      }
    } finally {
      socket.uncork();
    }
  }

  /** What a client still sends is read and dropped, so that closing does not reset the connection before our last reply is there. */
  #linger(): void {
    this.socket.off('data', this.#onData);
    this.socket.on('data', () => {});
    this.socket.resume();
    setTimeout(() => this.socket.destroy(), 2000).unref();
  }

  #startTls(): void {
    const raw = this.socket;
    const { tls } = this.options;
    raw.off('data', this.#onData).off('drain', this.#onDrain).off('end', this.#onEnd);
    const flags = this.#session.clientFlags;
    // The answer must leave before the socket speaks TLS.
    raw.uncork();
    // A server that never listens: it brings the check of client certificates with it.
    const server = createTlsServer(
      {
        cert: Buffer.from(tls!.cert),
        key: Buffer.from(tls!.key),
        ...(tls!.ca === undefined ? {} : { ca: Buffer.from(tls!.ca) }),
        requestCert: tls!.verifyPeer === true,
        rejectUnauthorized: tls!.verifyPeer === true,
        minVersion: 'TLSv1.2',
        handshakeTimeout: this.options.handshakeLimitMs || 60_000,
      },
      (secure) => {
        secure.on('error', (e) => debug('nbd', () => `client: ${e.message}`));
        this.socket = secure;
        this.#session = this.#newSession(true, flags);
        this.#busy = false;
        this.#attach(secure);
        this.#pump();
      },
    );
    server.on('tlsClientError', (e) => {
      debug('nbd', () => `TLS: ${e.message}`);
      raw.destroy();
    });
    server.emit('connection', raw);
  }

  #finish(): void {
    if (!this.#over) this.#leave();
    this.socket.destroy();
  }
  #leave(): void {
    this.#over = true;
    clearTimeout(this.#timer);
    this.#session.close();
    this.gone(this.#negotiated);
  }

  /** What came so far is answered (with ESHUTDOWN), and the answers may still leave. */
  shutDown(): void {
    this.#pump();
    if (this.#over) return;
    this.#leave();
    this.socket.destroySoon();
    setTimeout(() => this.socket.destroy(), 500).unref();
  }
}

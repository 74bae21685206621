import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { type ConnectionOptions, connect as tlsConnect } from 'node:tls';
import { GuestError } from '../core/errors.js';
import { type ListedExport, listExports, type Negotiated, type Negotiation, negotiate } from './nbd-negotiate.js';
import {
  CMD,
  CMD_PAYLOAD_LEN,
  EXTENDED_REQUEST_MAGIC,
  EXTENDED_REQUEST_SIZE,
  REQUEST_MAGIC,
  REQUEST_SIZE,
  setU64,
} from './nbd-protocol.js';
import { ByteQueue } from './nbd-queue.js';
import { type Pending, ReplyReader } from './nbd-replies.js';
import { formatNbdUri, type NbdTarget } from './nbd-uri.js';

/** The connection is gone; the request may be tried on a new one. */
export class NbdLost extends GuestError {
  constructor(message: string) {
    super('io', message, { errno: 'ECONNRESET' });
  }
}

const REFUSED: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused (is the server running?)',
  ENOENT: 'there is no such socket (is the server running?)',
  ENOTSOCK: 'this is not a socket',
  EACCES: 'permission denied',
  ENOTFOUND: 'unknown host',
  EAI_AGAIN: 'the host name cannot be looked up',
  ETIMEDOUT: 'no answer',
  EHOSTUNREACH: 'the host cannot be reached',
  ENETUNREACH: 'the network cannot be reached',
};

function connectError(e: Error, target: NbdTarget): GuestError {
  const inner = e instanceof AggregateError && e.errors[0] instanceof Error ? e.errors[0] : e;
  const errno = (inner as NodeJS.ErrnoException).code;
  const message = (errno === undefined ? undefined : REFUSED[errno]) ?? inner.message;
  const code = errno === 'ENOENT' || errno === 'ENOTFOUND' ? 'not-found' : 'io';
  return new GuestError(code, message, {
    path: target.socket ?? `${target.host}:${target.port}`,
    ...(errno === undefined ? {} : { errno }),
  });
}

function tlsOptions(target: NbdTarget): ConnectionOptions {
  const file = (name: string, must: boolean): Buffer | undefined => {
    if (target.tlsCertificates === undefined) return undefined;
    try {
      return readFileSync(join(target.tlsCertificates, name));
    } catch (e) {
      if (!must) return undefined;
      throw new GuestError('not-found', `${name} cannot be read: ${(e as Error).message}`, { path: target.tlsCertificates });
    }
  };
  const ca = file('ca-cert.pem', target.tlsVerifyPeer !== false);
  const cert = file('client-cert.pem', false);
  const key = file('client-key.pem', false);
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined || key === undefined ? {} : { cert, key }),
    servername: target.tlsHostname ?? target.host ?? 'localhost',
    rejectUnauthorized: target.tlsVerifyPeer !== false,
    minVersion: 'TLSv1.2',
  };
}

function open(target: NbdTarget): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const s = target.socket !== undefined ? connect(target.socket) : connect({ host: target.host!, port: target.port! });
    s.setNoDelay(true);
    s.once('connect', () => resolve(s));
    s.once('error', (e) => reject(connectError(e, target)));
  });
}

/** Checks the name as Node does, but a host given as an address is no server name. */
function startTls(socket: Socket, target: NbdTarget): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const o = tlsOptions(target);
    const isAddress = /^[0-9.]+$|:/.test(o.servername ?? '');
    const { servername, ...rest } = o;
    const secure = tlsConnect(isAddress ? { ...rest, socket, host: servername! } : { ...o, socket }, () => resolve(secure));
    secure.once('error', (e) => reject(new GuestError('denied', `TLS: ${e.message}`)));
    socket.once('close', () => reject(new GuestError('denied', 'the server ended the TLS handshake')));
  });
}

/** Runs a negotiation over a new connection; gives its result, the socket, and bytes that came too early. */
async function converse<T>(
  target: NbdTarget,
  start: Negotiation<T>,
  timeoutMs: number,
): Promise<{ result: T; socket: Socket; rest: ByteQueue }> {
  let socket: Socket | undefined;
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new GuestError('io', `no answer within ${timeoutMs / 1000} s`));
      socket?.destroy();
    }, timeoutMs);
  });
  const work = (async () => {
    socket = await open(target);
    let input = new ByteQueue();
    let wake: (() => void) | undefined;
    let ended: GuestError | undefined;
    const take = (b: Uint8Array) => {
      input.push(b);
      wake?.();
    };
    const fail = (e: Error) => {
      ended ??= new NbdLost((e as NodeJS.ErrnoException).code === 'ECONNRESET' ? 'the connection was reset' : e.message);
      wake?.();
    };
    const end = () => fail(new Error('the server closed the connection'));
    const attach = (s: Socket) => s.on('data', take).on('error', fail).on('close', end).on('end', end);
    // Only our own: a socket listens to itself as well.
    const detach = (s: Socket) => s.off('data', take).off('error', fail).off('close', end).off('end', end);
    attach(socket);
    for (let step = start.next(); ; ) {
      if (step.done === true) {
        detach(socket);
        // Between here and the next listener an error must not be fatal.
        socket.on('error', () => {});
        socket.pause();
        return { result: step.value, socket, rest: input };
      }
      const wish = step.value;
      if (wish === 'starttls') {
        if (input.length > 0) throw new GuestError('corrupt', 'NBD handshake: the server sent clear text before TLS');
        detach(socket);
        socket = await startTls(socket, target);
        input = new ByteQueue();
        attach(socket);
        step = start.next(NOTHING);
      } else if ('send' in wish) {
        socket.write(wish.send);
        step = start.next(NOTHING);
      } else {
        let b: Uint8Array | undefined;
        while ((b = input.take(wish.need)) === undefined) {
          if (ended !== undefined) throw ended;
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
          wake = undefined;
        }
        step = start.next(b);
      }
    }
  })();
  try {
    return await Promise.race([work, timeout]);
  } catch (e) {
    socket?.destroy();
    work.catch(() => {});
    throw e;
  } finally {
    clearTimeout(timer);
    timeout.catch(() => {});
  }
}
const NOTHING = new Uint8Array(0);

/** What a server has; `target.export` does not matter. */
export async function listNbdExports(target: NbdTarget, timeoutMs = 30_000): Promise<readonly ListedExport[]> {
  const { result, socket } = await converse(target, listExports(target), timeoutMs);
  socket.end();
  socket.destroySoon();
  return result;
}

/** A connection in the transmission phase.  Requests run side by side; each is a promise. */
export class NbdConnection {
  readonly #replies: ReplyReader;
  #cookie = 0;
  #lost: GuestError | undefined;

  private constructor(
    readonly target: NbdTarget,
    readonly info: Negotiated,
    private readonly socket: Socket,
    early: ByteQueue,
  ) {
    this.#replies = new ReplyReader(info);
    socket.on('data', (b: Uint8Array) => this.#take(b));
    socket.on('error', (e) => this.#end(new NbdLost(`the connection was lost: ${e.message}`)));
    socket.on('end', () => this.#end(new NbdLost('the server closed the connection')));
    socket.on('close', () => this.#end(new NbdLost('the server closed the connection')));
    if (early.length > 0) this.#take(early.take(early.length)!);
    socket.resume();
  }

  static async open(target: NbdTarget, timeoutMs = 30_000): Promise<NbdConnection> {
    const { result, socket, rest } = await converse(target, negotiate(target), timeoutMs);
    return new NbdConnection(target, result, socket, rest);
  }

  get uri(): string {
    return formatNbdUri(this.target);
  }
  /** Why nothing more can be asked; undefined while the connection stands. */
  get lost(): GuestError | undefined {
    return this.#lost;
  }

  #take(b: Uint8Array): void {
    try {
      this.#replies.push(b);
    } catch (e) {
      // A server that breaks the protocol is not asked again.
      this.#end(e instanceof GuestError ? e : new GuestError('internal', `internal error: ${(e as Error).message}`));
    }
  }
  #end(e: GuestError): void {
    if (this.#lost !== undefined) return;
    this.#lost = e;
    this.socket.destroy();
    this.#replies.fail(e);
  }

  request(
    type: number,
    offset: number,
    length: number,
    more: { readonly flags?: number; readonly into?: Uint8Array; readonly from?: Uint8Array; readonly runs?: number[] } = {},
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#lost !== undefined) return reject(this.#lost);
      // Cookies that are still out must not come again.
      this.#cookie = (this.#cookie + 1) >>> 0;
      const { extended } = this.info;
      const b = new Uint8Array(extended ? EXTENDED_REQUEST_SIZE : REQUEST_SIZE);
      const v = new DataView(b.buffer);
      v.setUint32(0, extended ? EXTENDED_REQUEST_MAGIC : REQUEST_MAGIC);
      v.setUint16(4, (more.flags ?? 0) | (extended && type === CMD.WRITE ? CMD_PAYLOAD_LEN : 0));
      v.setUint16(6, type);
      v.setUint32(12, this.#cookie);
      setU64(v, 16, offset);
      if (extended) setU64(v, 24, length);
      else v.setUint32(24, length);
      const p: Pending = {
        kind: type === CMD.READ ? 'read' : type === CMD.BLOCK_STATUS ? 'status' : 'other',
        offset,
        length,
        done: (error) => (error === undefined ? resolve() : reject(error)),
        ...(more.into === undefined ? {} : { into: more.into }),
        ...(more.runs === undefined ? {} : { runs: more.runs, context: this.info.allocation }),
      };
      this.#replies.expect(this.#cookie, p);
      this.socket.cork();
      this.socket.write(b);
      if (more.from !== undefined) this.socket.write(more.from);
      this.socket.uncork();
    });
  }

  /** Tells the server that we go, and goes. */
  close(): void {
    if (this.#lost !== undefined) return;
    const { extended } = this.info;
    const b = new Uint8Array(extended ? EXTENDED_REQUEST_SIZE : REQUEST_SIZE);
    const v = new DataView(b.buffer);
    v.setUint32(0, extended ? EXTENDED_REQUEST_MAGIC : REQUEST_MAGIC);
    v.setUint16(6, CMD.DISC);
    this.socket.end(b);
    this.#lost = new NbdLost('closed');
    this.socket.destroySoon();
    this.#replies.fail(this.#lost);
  }
}

import { parentPort } from 'node:worker_threads';
import { GuestError } from '../core/errors.js';
import { NbdConnection, NbdLost } from './nbd-connection.js';
import { ANSWER_SLOT, DONE, FAILED, type NbdFailure, type NbdMessage, type NbdOpened, SLOTS } from './nbd-messages.js';
import { CMD, FLAG } from './nbd-protocol.js';
import { parseNbdUri } from './nbd-uri.js';

/** The asynchronous half of NbdSource. */
let control: Int32Array;
let memory: Uint8Array;
let uri: string;
let timeoutMs: number;
let connection: NbdConnection;
let opened: NbdOpened;
/** Written and not flushed: a new connection may be to a server that has lost it. */
let dirty = false;

const connect = (): Promise<NbdConnection> => NbdConnection.open(parseNbdUri(uri), timeoutMs);

async function open(m: NbdMessage & { kind: 'open' }): Promise<void> {
  control = new Int32Array(m.control);
  memory = new Uint8Array(m.data);
  uri = m.uri;
  timeoutMs = m.timeoutMs;
  connection = await connect();
  const { size, flags, minimumBlock, maximumBlock, allocation } = connection.info;
  if (m.writable && (flags & FLAG.READ_ONLY) !== 0) {
    connection.close();
    throw new GuestError('read-only', 'the server exports this for reading only');
  }
  opened = { size, flags, minimumBlock, maximumBlock, status: allocation !== undefined };
  put(ANSWER_SLOT, new TextEncoder().encode(JSON.stringify(opened)));
}

/** A slot's part of the shared memory. */
function slotOf(slot: number): Uint8Array {
  const size = memory.length / SLOTS;
  return memory.subarray(slot * size, (slot + 1) * size);
}

let reconnecting: Promise<void> | undefined;

/** One new connection for a lost one, also when several requests notice. */
async function again(lost: GuestError): Promise<void> {
  if (!(lost instanceof NbdLost)) throw lost;
  if (dirty) throw new GuestError('io', `${lost.message}; what was written since the last flush may be lost`, lost.where);
  if (connection.lost === undefined) return;
  reconnecting ??= reconnect(lost).finally(() => {
    reconnecting = undefined;
  });
  return reconnecting;
}

/** The new connection must lead to the same disk. */
async function reconnect(lost: GuestError): Promise<void> {
  let next: NbdConnection;
  try {
    next = await connect();
  } catch (e) {
    throw new GuestError('io', `${lost.message}, and connecting again failed: ${(e as Error).message}`, lost.where);
  }
  const { size, allocation } = next.info;
  if (size !== opened.size || (allocation === undefined) === opened.status) {
    next.close();
    throw new GuestError(
      'io',
      `${lost.message}, and the server now has another disk there (${size} bytes, before: ${opened.size})`,
      lost.where,
    );
  }
  connection = next;
}

/** Runs `work`; when the connection breaks under it, once more on a new one. */
async function reading(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (e) {
    if (!(e instanceof NbdLost)) throw e;
    await again(e);
    await work();
  }
}

/** A write is not repeated: but one that begins on a broken connection may have a new one. */
async function changing(work: () => Promise<void>): Promise<void> {
  if (connection.lost !== undefined) await again(connection.lost);
  dirty = true;
  await work();
}

/** All of them end before the first error is told: the shared memory is not ours any more after that. */
async function all(requests: readonly Promise<void>[]): Promise<void> {
  for (const r of await Promise.allSettled(requests)) if (r.status === 'rejected') throw r.reason;
}

async function handle(m: NbdMessage): Promise<void> {
  const data = m.kind === 'open' ? new Uint8Array(0) : slotOf(m.slot);
  switch (m.kind) {
    case 'open':
      return open(m);
    case 'read':
      return reading(() =>
        all(m.parts.map((p) => connection.request(CMD.READ, p.offset, p.length, { into: data.subarray(p.at, p.at + p.length) }))),
      );
    case 'write':
      return changing(() =>
        all(
          m.parts.map((p) =>
            // A copy: the socket may hold on to it after the answer.
            connection.request(CMD.WRITE, p.offset, p.length, { from: data.slice(p.at, p.at + p.length) }),
          ),
        ),
      );
    case 'status':
      return reading(async () => {
        const runs: number[] = [];
        await connection.request(CMD.BLOCK_STATUS, m.offset, m.length, { runs });
        const most = Math.floor(data.byteLength / 16) * 2;
        const pairs = new Float64Array(data.buffer, data.byteOffset, Math.min(runs.length, most));
        pairs.set(runs.length > most ? runs.slice(0, most) : runs);
        Atomics.store(control, 2 * m.slot + 1, pairs.length);
      });
    case 'zero':
      return changing(() => connection.request(CMD.WRITE_ZEROES, m.offset, m.length));
    case 'trim':
      return changing(() => connection.request(CMD.TRIM, m.offset, m.length));
    case 'flush':
      if (connection.lost !== undefined) await again(connection.lost);
      if ((opened.flags & FLAG.SEND_FLUSH) !== 0) await connection.request(CMD.FLUSH, 0, 0);
      dirty = false;
      return;
    case 'close':
      connection.close();
  }
}

function put(slot: number, bytes: Uint8Array): void {
  const data = slotOf(slot);
  data.set(bytes.subarray(0, data.length));
  Atomics.store(control, 2 * slot + 1, Math.min(bytes.length, data.length));
}

parentPort!.on('message', (m: NbdMessage) => {
  const finish = (state: number) => {
    Atomics.store(control, 2 * m.slot, state);
    Atomics.notify(control, 2 * m.slot);
  };
  handle(m).then(
    () => finish(DONE),
    (e: unknown) => {
      const failure: NbdFailure =
        e instanceof GuestError
          ? { code: e.code, message: e.message, where: { ...e.where } }
          : { code: 'internal', message: `internal error: ${e instanceof Error ? e.message : String(e)}`, where: {} };
      put(m.slot, new TextEncoder().encode(JSON.stringify(failure)));
      finish(FAILED);
    },
  );
});

import { parentPort } from 'node:worker_threads';
import { EnvHttpProxyAgent, request } from 'undici';
import { DONE, FAILED, type HttpOpen, type HttpOpened, type HttpRequest } from './http-protocol.js';

/** The asynchronous half of HttpSource: range requests by undici, answers through shared memory. */
const ATTEMPTS = 4;
const dispatcher = new EnvHttpProxyAgent({ connections: 8, headersTimeout: 30_000, bodyTimeout: 30_000 });
let target: HttpOpen;
let opened: HttpOpened;

class Failure extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

interface Answer {
  readonly bytes: Uint8Array;
  readonly total: number;
  readonly validator?: string;
}

/** One range; follows redirects, retries what may pass. */
async function fetchRange(offset: number, length: number): Promise<Answer> {
  let url = target.url;
  let last: unknown;
  for (let attempt = 0, hops = 0; attempt < ATTEMPTS; ) {
    try {
      const r = await request(url, {
        dispatcher,
        headers: { ...target.headers, 'accept-encoding': 'identity', range: `bytes=${offset}-${offset + length - 1}` },
      });
      const { statusCode, headers } = r;
      if (statusCode >= 300 && statusCode < 400 && headers['location'] !== undefined) {
        await r.body.dump();
        if (++hops > 10) throw new Failure('io', 'more than 10 redirects');
        const next = new URL(String(headers['location']), url);
        // Credentials are for the host that the user named, not for where it sends us.
        if (next.origin !== new URL(target.url).origin) target = { ...target, headers: withoutAuthorization(target.headers) };
        url = next.href;
        continue;
      }
      if (statusCode === 200) {
        r.body.destroy();
        throw new Failure(
          'unsupported',
          'the server does not support range requests (it answered 200 instead of 206); download the file first',
        );
      }
      if (statusCode === 416) throw new Failure('io', `the server has no bytes ${offset} to ${offset + length - 1} (416)`);
      if (statusCode !== 206) {
        await r.body.dump();
        const message = `the server answered ${statusCode}${statusCode === 401 || statusCode === 403 ? ' (are credentials needed?)' : ''}`;
        if (statusCode >= 500 || statusCode === 429) throw new Error(message);
        throw new Failure(statusCode === 404 ? 'not-found' : 'io', message);
      }
      const range = /^bytes ([0-9]+)-([0-9]+)\/([0-9]+)$/.exec(String(headers['content-range'] ?? ''));
      if (range === null || Number(range[1]) !== offset)
        throw new Failure('io', `bad Content-Range header: "${headers['content-range']}"`);
      const bytes = new Uint8Array(await r.body.arrayBuffer());
      const expected = Math.min(length, Number(range[3]) - offset);
      if (bytes.length !== expected) throw new Error(`${bytes.length} of ${expected} bytes came`);
      const validator = headers['etag'] ?? headers['last-modified'];
      return { bytes, total: Number(range[3]), ...(validator === undefined ? {} : { validator: String(validator) }) };
    } catch (e) {
      if (e instanceof Failure) throw e;
      last = e;
      attempt++;
      if (attempt < ATTEMPTS) await new Promise((done) => setTimeout(done, 100 * 4 ** (attempt - 1)));
    }
  }
  throw new Failure('io', `${last instanceof Error ? describe(last) : String(last)} (tried ${ATTEMPTS} times)`);
}

const withoutAuthorization = (headers: Readonly<Record<string, string>>) =>
  Object.fromEntries(Object.entries(headers).filter(([k]) => k.toLowerCase() !== 'authorization'));

function describe(e: Error): string {
  const inner = e instanceof AggregateError ? e.errors[0] : e;
  return (inner instanceof Error ? inner.message : '') || e.message || e.name;
}

async function handle(message: HttpRequest): Promise<void> {
  if (message.kind === 'open') {
    target = message;
    const first = await fetchRange(0, 1);
    opened = { size: first.total, ...(first.validator === undefined ? {} : { validator: first.validator }) };
    put(new TextEncoder().encode(JSON.stringify(opened)));
    return;
  }
  const data = new Uint8Array(target.data);
  await Promise.all(
    message.parts.map(async (part) => {
      const a = await fetchRange(part.offset, part.length);
      if (a.total !== opened.size || a.validator !== opened.validator)
        throw new Failure(
          'io',
          `the file changed on the server while it was read (size ${opened.size} → ${a.total}, ${opened.validator} → ${a.validator})`,
        );
      data.set(a.bytes, part.at);
    }),
  );
}

function put(bytes: Uint8Array): void {
  new Uint8Array(target.data).set(bytes);
  Atomics.store(new Int32Array(target.control), 1, bytes.length);
}

parentPort!.on('message', (message: HttpRequest) => {
  const finish = (state: number) => {
    const control = new Int32Array(target.control);
    Atomics.store(control, 0, state);
    Atomics.notify(control, 0);
  };
  handle(message).then(
    () => finish(DONE),
    (e: unknown) => {
      const failure = { code: e instanceof Failure ? e.code : 'io', message: e instanceof Error ? describe(e) : String(e) };
      put(new TextEncoder().encode(JSON.stringify(failure)));
      finish(FAILED);
    },
  );
});

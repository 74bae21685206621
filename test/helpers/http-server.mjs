// A small HTTP server for one file, in its own process: HttpSource waits synchronously, so it cannot live in the test's.
//   node http-server.mjs FILE MODE [FOLDER WITH key.pem AND cert.pem]      prints its port; MODE: ranges, none, auth, changes, flaky, short
import { closeSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';

const [file, mode, tlsFolder] = process.argv.slice(2);
let requests = 0;
let bytesSent = 0;
const size = statSync(file).size;
const answer = (request, response) => {
  if (request.url === '/stats') {
    response.end(JSON.stringify({ requests, bytesSent }));
    return;
  }
  requests++;
  if (request.url === '/moved') {
    response.writeHead(302, { location: '/image' }).end();
    return;
  }
  if (request.url !== '/image') {
    response.writeHead(404).end('no such file');
    return;
  }
  if (mode === 'auth' && request.headers.authorization !== `Basic ${Buffer.from('user:pass word').toString('base64')}`) {
    response.writeHead(401).end();
    return;
  }
  if (mode === 'flaky' && requests % 3 === 2) {
    response.destroy();
    return;
  }
  const range = /^bytes=([0-9]+)-([0-9]+)$/.exec(request.headers.range ?? '');
  if (mode === 'none' || range === null) {
    response.writeHead(200, { 'content-length': size });
    response.end(Buffer.alloc(Math.min(size, 1000)));
    return;
  }
  const first = Number(range[1]);
  const last = Math.min(size - 1, Number(range[2]));
  const body = Buffer.alloc(last - first + 1);
  const fd = openSync(file, 'r');
  readSync(fd, body, 0, body.length, first);
  closeSync(fd);
  bytesSent += body.length;
  response.writeHead(206, {
    'content-range': `bytes ${first}-${last}/${size}`,
    etag: mode === 'changes' && requests > 2 ? '"new"' : '"old"',
  });
  response.end(body);
};
const server =
  tlsFolder === undefined
    ? createServer(answer)
    : createTlsServer({ key: readFileSync(`${tlsFolder}/key.pem`), cert: readFileSync(`${tlsFolder}/cert.pem`) }, answer);
server.listen(0, '127.0.0.1', () => console.log(server.address().port));

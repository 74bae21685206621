// A CONNECT proxy on 127.0.0.1, in its own process; prints its port, then a line for each tunnel.
import { createServer } from 'node:http';
import { connect } from 'node:net';

const server = createServer((_request, response) => response.writeHead(405).end());
server.on('connect', (request, client, head) => {
  console.log(`CONNECT ${request.url} ${request.headers['proxy-authorization'] ?? '-'}`);
  const [host, port] = request.url.split(':');
  const target = connect(Number(port), host, () => {
    client.write('HTTP/1.1 200 Connection established\r\n\r\n');
    target.write(head);
    target.pipe(client).pipe(target);
  });
  for (const s of [target, client]) s.on('error', () => s.destroy());
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));

// A peer with a fault, for clients, in a process of its own:
//   node nbd-peer.mjs SOCKET die BACKEND N    the same, and is gone then
//   node nbd-peer.mjs SOCKET drop BACKEND N   passes everything on; ends the first connection after N bytes of answers
//   node nbd-peer.mjs SOCKET garbage|silent|closes|no-nbd
import { connect, createServer } from 'node:net';

const [socket, mode, backend, limit] = process.argv.slice(2);
let connections = 0;
createServer((client) => {
  connections++;
  client.on('error', () => {});
  if (mode === 'drop' || mode === 'die') {
    const server = connect(backend);
    server.on('error', () => client.destroy());
    let sent = 0;
    const first = connections === 1;
    client.on('data', (b) => server.write(b));
    server.on('data', (b) => {
      sent += b.length;
      if (first && sent > Number(limit)) {
        if (mode === 'die') process.kill(process.pid, 'SIGKILL');
        client.destroy();
        server.destroy();
      } else client.write(b);
    });
    client.on('close', () => server.end());
    server.on('close', () => client.end());
    return;
  }
  if (mode === 'closes') client.end('NBDMAGIC');
  else if (mode === 'no-nbd') client.write('HTTP/1.1 400 Bad Request\r\n\r\n');
  else if (mode === 'garbage') {
    client.write(Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), Buffer.from([0, 3])]));
    client.on('data', () => client.write(Buffer.alloc(64, 0xff)));
  }
}).listen(socket, () => console.log('ready'));

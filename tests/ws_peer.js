// The library `ws` of Node as the other side, for tests/ws_peers:
//   node ws_peer.js serve        an echo server; prints its port
//   node ws_peer.js talk URL     a client of ours
'use strict';

const assert = require('node:assert');
const { once } = require('node:events');
const { WebSocket, WebSocketServer } = require(process.env.WS_MODULE);

function serve() {
  const server = new WebSocketServer({
    host: '127.0.0.1',
    port: 0,
    perMessageDeflate: { threshold: 0 },
    handleProtocols: (offered) => ['b', 'c'].find((name) => offered.has(name)) ?? false,
  });
  server.on('listening', () => console.log(server.address().port));
  server.on('connection', (socket) => {
    socket.on('message', (data, isBinary) => {
      if (!isBinary && data.toString() === 'close') socket.close(4001, 'bye');
      else socket.send(data, { binary: isBinary });
    });
  });
}

async function echo(socket, data, options) {
  const answered = once(socket, 'message');
  socket.send(data, options);
  const [back, isBinary] = await answered;
  assert.strictEqual(isBinary, typeof data !== 'string');
  assert(Buffer.compare(back, Buffer.from(data)) === 0, `${data.length}: ${back.length}`);
}

async function echoFragments(socket) {
  const answered = once(socket, 'message');
  const part = Buffer.alloc(1000, 'ab');
  for (let i = 0; i < 20; i++) {
    socket.send(part, { fin: i === 19, binary: true });
    if (i % 5 === 0) socket.ping(`ping ${i}`); // in between
  }
  assert.strictEqual((await answered)[0].length, 20000);
}

async function talk(url, perMessageDeflate) {
  const socket = new WebSocket(url, { perMessageDeflate });
  await once(socket, 'open');
  const sizes = [0, 1, 125, 126, 127, 4096, 65535, 65536, 70000, 1000000];
  for (const size of sizes) {
    await echo(socket, Buffer.from(Array.from({ length: size }, (_, i) => i * 7 + (i >> 8))));
    await echo(socket, 'gr\u00fc\u00df\u{1F600} '.repeat(size / 11));
  }
  await echoFragments(socket);
  const ponged = once(socket, 'pong');
  socket.ping('are you there');
  assert.strictEqual((await ponged)[0].toString(), 'are you there');
  let count = 0;
  const counted = new Promise((resolve) => {
    socket.on('message', () => { if (++count === 1000) resolve(); });
  });
  for (let i = 0; i < 1000; i++) socket.send(`message ${i}`);
  await counted;
  socket.close(4000, 'gr\u00fc\u00df');
  const [code] = await once(socket, 'close');
  assert.strictEqual(code, 4000);
}

// What breaks the protocol is answered by a close that says why.
async function breaks(url, code, bytes) {
  const socket = new WebSocket(url, { perMessageDeflate: false });
  await once(socket, 'open');
  socket._socket.write(Buffer.from(bytes, 'hex'));
  const [got] = await once(socket, 'close');
  assert.strictEqual(got, code, bytes);
}

async function main(url) {
  for (const deflate of [false, true, { threshold: 0 },
    { threshold: 0, serverNoContextTakeover: true, clientNoContextTakeover: true },
    { threshold: 0, serverMaxWindowBits: 10, clientMaxWindowBits: 10 }]) {
    await talk(url, deflate);
  }
  await breaks(url, 1002, '8f8000000000'); // a reserved opcode
  await breaks(url, 1002, 'c18000000000'); // a reserved bit
  await breaks(url, 1007, '818100000000ff'); // not UTF-8
  await breaks(url, 1002, '890000'); // no mask
  await breaks(url, 1009, '82ff00000000ffffffff00000000'); // 4 GiB
}

if (process.argv[2] === 'serve') {
  serve();
} else {
  main(process.argv[3]).catch((error) => {
    console.log(error.stack);
    process.exit(1);
  });
}

// The demo seen by a Node client, for tests/demo: node demo_client.js URL
'use strict';

const assert = require('node:assert');
const http = require('node:http');
const net = require('node:net');
const { once } = require('node:events');
const { runTests } = require('./run_tests.js');

const url = new URL(process.argv[2]);
const HEAD_END = Buffer.from('\r\n\r\n');

function request(path, options, agent) {
  return http.request(new URL(path, url), { agent, ...options });
}

async function text(response) {
  const parts = [];
  for await (const part of response) parts.push(part);
  return Buffer.concat(parts).toString('latin1');
}

async function get(path, agent) {
  const sent = request(path, {}, agent).end();
  const [response] = await once(sent, 'response');
  return { status: response.statusCode, body: await text(response) };
}

async function raw() {
  const socket = net.connect({ port: url.port, host: url.hostname, allowHalfOpen: true });
  await once(socket, 'connect');
  return socket;
}

const line = (path, more = '') => `GET ${path} HTTP/1.1\r\nHost: a\r\n${more}\r\n`;

// What is left of the responses in `bytes` once the first is taken off: [body, rest].
function split(bytes) {
  const end = bytes.indexOf(HEAD_END);
  assert(end > 0, 'no head');
  const head = bytes.subarray(0, end).toString('latin1');
  assert.match(head, /^HTTP\/1.1 200 OK\r\n/);
  const length = Number(/\r\nContent-Length: (\d+)/.exec(head)[1]);
  const begin = end + HEAD_END.length;
  return [bytes.subarray(begin, begin + length).toString('latin1'), bytes.subarray(begin + length)];
}

const tests = {
  async 'two hundred requests at once share twenty connections'() {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 20 });
    const sockets = new Set();
    agent.on('free', (socket) => sockets.add(socket));
    const bodies = await Promise.all(Array.from({ length: 200 }, async (_, i) => {
      const { status, body } = await get(i % 4 ? `/bytes/${i * 100}` : '/sleep/2', agent);
      assert.strictEqual(status, 200);
      return body;
    }));
    bodies.forEach((body, i) => {
      assert.strictEqual(body, i % 4 ? 'z'.repeat(i * 100) : 'slept 2 ms\n', `request ${i}`);
    });
    assert(sockets.size <= 20, `${sockets.size} connections`);
    agent.destroy();
  },

  async 'an echo comes back piece by piece while the upload goes on'() {
    const sent = request('/echo', { method: 'POST' });
    sent.write('piece 0');
    const [response] = await once(sent, 'response');
    const parts = response[Symbol.asyncIterator]();
    for (let i = 0; i < 50; i++) {
      const wanted = `piece ${i}`;
      let got = '';
      while (got.length < wanted.length) got += (await parts.next()).value.toString();
      assert.strictEqual(got, wanted);
      if (i < 49) sent.write(`piece ${i + 1}`);
    }
    sent.end();
    assert((await parts.next()).done);
  },

  async 'responses to pipelined requests come in order'() {
    const socket = await raw();
    const sizes = Array.from({ length: 100 }, (_, i) => (i * 397) % 5000);
    const heads = sizes.map((size, i) => line(i === 50 ? '/sleep/5' : `/bytes/${size}`));
    socket.end(heads.join('') + line('/json', 'Connection: close\r\n'));
    let rest = Buffer.from(await text(socket), 'latin1');
    for (const [i, size] of sizes.entries()) {
      let body;
      [body, rest] = split(rest);
      assert.strictEqual(body, i === 50 ? 'slept 5 ms\n' : 'z'.repeat(size), `response ${i}`);
    }
    assert.deepStrictEqual(split(rest)[0], '{"message":"Hello, World!"}');
  },

  async 'a request may come byte by byte'() {
    const socket = await raw();
    socket.setNoDelay(true);
    for (const byte of line('/json', 'Connection: close\r\n')) {
      socket.write(byte);
      await new Promise(setImmediate);
    }
    socket.end();
    assert.strictEqual(split(Buffer.from(await text(socket)))[0], '{"message":"Hello, World!"}');
  },

  async 'a client that has shut its side down gets its response'() {
    const socket = await raw();
    socket.end(line('/sleep/200'));
    assert.strictEqual(split(Buffer.from(await text(socket)))[0], 'slept 200 ms\n');
  },

  async 'clients that go in the middle of a download leave the server well'() {
    for (const leave of ['destroy', 'resetAndDestroy']) {
      const sockets = await Promise.all(Array.from({ length: 20 }, raw));
      await Promise.all(sockets.map(async (socket) => {
        socket.write(line('/bytes/1000000000'));
        await once(socket, 'data');
        socket[leave]();
      }));
      assert.strictEqual((await get('/json')).status, 200, leave);
    }
  },

  async 'clients that go in the middle of an upload leave the server well'() {
    const sent = request('/echo', { method: 'POST', headers: { 'Content-Length': 1000000 } });
    sent.write('only the beginning');
    const [response] = await once(sent, 'response');
    await once(response, 'data');
    sent.on('error', () => {});
    response.on('error', () => {});
    sent.destroy();
    assert.strictEqual((await get('/json')).status, 200);
  },

  async 'a slow reader holds its own response back and nobody else\'s'() {
    const socket = await raw();
    socket.write(line('/bytes/50000000', 'Connection: close\r\n'));
    await once(socket, 'readable');
    assert.strictEqual((await get('/plaintext')).body, 'Hello, World!');
    let size = 0;
    for await (const part of socket) size += part.length;
    assert(size > 50000000, `${size} bytes`);
  },

  async 'a WebSocket echoes, and is closed'() {
    const sent = request('/ws', { headers: {
      Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': 13,
      'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==' } });
    sent.end();
    const [response, socket] = await once(sent, 'upgrade');
    assert.strictEqual(response.statusCode, 101);
    assert.strictEqual(response.headers['sec-websocket-accept'], 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=');
    const frame = (first, payload) => Buffer.concat([
      Buffer.from([first, 0x80 | payload.length, 0, 0, 0, 0]), Buffer.from(payload)]);
    const code = Buffer.from([0x03, 0xe8]);
    socket.write(Buffer.concat([frame(0x81, 'hello'), frame(0x89, 'ping'), frame(0x88, code)]));
    const parts = [];
    for await (const part of socket) parts.push(part);
    assert.strictEqual(Buffer.concat(parts).toString('hex'),
      '8105' + '68656c6c6f' + '8a04' + '70696e67' + '8802' + '03e8');
  },
};

runTests(tests, 20000);

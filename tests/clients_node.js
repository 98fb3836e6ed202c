// The demo over HTTP/2 seen by a Node client, for tests/clients: node clients_node.js URL
'use strict';

const assert = require('node:assert');
const http2 = require('node:http2');
const https = require('node:https');
const { once } = require('node:events');
const { runTests } = require('./run_tests.js');

const url = new URL(process.argv[2]);
const isSecure = url.protocol === 'https:';

async function open(options = {}) {
  const session = http2.connect(url, options);
  await once(session, 'connect');
  return session;
}

async function bytes(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}

async function answer(stream) {
  const [headers] = await once(stream, 'response');
  return { status: headers[':status'], body: await bytes(stream) };
}

const get = (session, path) => answer(session.request({ ':path': path }));

const tests = {
  async 'two hundred requests at once share a connection'() {
    const session = await open();
    assert.strictEqual(session.alpnProtocol, isSecure ? 'h2' : 'h2c');
    const all = [];
    for (let i = 0; i < 200; i++) all.push(get(session, `/bytes/${i * 1000}`));
    const answers = await Promise.all(all);
    answers.forEach(({ status, body }, i) => {
      assert.strictEqual(status, 200);
      assert.strictEqual(body.length, i * 1000);
    });
    session.close();
    await once(session, 'close');
  },

  async 'bodies stream both ways'() {
    const session = await open();
    const stream = session.request({ ':method': 'POST', ':path': '/echo', 'content-type': 'a/b' });
    const answered = once(stream, 'response');
    const part = Buffer.alloc(10000, 'x');
    stream.write(part);
    const [headers] = await answered; // before the request's end
    assert.strictEqual(headers['content-type'], 'a/b');
    const received = bytes(stream);
    for (let i = 0; i < 199; i++) {
      if (!stream.write(part)) await once(stream, 'drain');
    }
    stream.end();
    assert.strictEqual((await received).length, 2000000);
    session.destroy();
  },

  async 'who stops reading one stream can read another'() {
    const session = await open();
    const held = session.request({ ':path': '/bytes/10000000' });
    await once(held, 'response');
    held.pause();
    for (let i = 0; i < 20; i++) assert.strictEqual((await get(session, '/json')).status, 200);
    const rest = await bytes(held);
    assert.strictEqual(rest.length, 10000000);
    session.destroy();
  },

  async 'a cancelled stream is only that one\'s end'() {
    const session = await open();
    for (let i = 0; i < 20; i++) {
      const stream = session.request({ ':path': i % 2 ? '/sleep/60000' : '/bytes/100000000' });
      if (i % 2 === 0) await once(stream, 'response');
      stream.close(http2.constants.NGHTTP2_CANCEL);
      await once(stream, 'close');
    }
    assert.strictEqual((await get(session, '/plaintext')).body.toString(), 'Hello, World!');
    session.destroy();
  },

  async 'pings are answered'() {
    const session = await open();
    const payload = Buffer.from('12345678');
    await new Promise((resolve, reject) => {
      session.ping(payload, (error, _, back) => {
        if (error || !back.equals(payload)) reject(error ?? new Error('another payload'));
        else resolve();
      });
    });
    session.destroy();
  },

  async 'HTTP/1.1 on the same port'() {
    if (!isSecure) return;
    const sent = https.get(new URL('/json', url));
    const [response] = await once(sent, 'response');
    assert.strictEqual(response.httpVersion, '1.1');
    assert.strictEqual((await bytes(response)).toString(), '{"message":"Hello, World!"}');
  },

  async 'sessions are resumed'() {
    if (!isSecure) return;
    const first = await open();
    let ticket = null;
    first.socket.on('session', (session) => { ticket = session; });
    await get(first, '/json');
    assert(ticket, 'no ticket');
    const second = await open({ session: ticket });
    assert(second.socket.isSessionReused());
    assert.strictEqual((await get(second, '/json')).status, 200);
    first.destroy();
    second.destroy();
  },
};

runTests(tests, 15000);

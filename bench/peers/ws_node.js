// An echo server on Node's `ws`, for bench/ws.py: node ws_node.js MODULE PORT
'use strict';

const { WebSocketServer } = require(process.argv[2]);
const server = new WebSocketServer({
  host: '127.0.0.1', port: Number(process.argv[3]), perMessageDeflate: false,
});
server.on('connection', (socket) => {
  socket.on('message', (data, binary) => socket.send(data, { binary }));
});

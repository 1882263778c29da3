// A peer to compare with: the same servers over Node's net and tls modules.
//
//   node server.js [echo | lines | fan-out]     on 127.0.0.1, on a free port; SIGTERM ends it with status 0
//   node server.js echo WORKERS                 a cluster of so many processes, to which the first one hands clients
//   node server.js tls CERTIFICATE KEY
'use strict';
const cluster = require('node:cluster');
const fs = require('node:fs');
const net = require('node:net');
const tls = require('node:tls');

const members = new Set();

// Whoever does not read the answers is not read from either, so that the queue stays short.
function write(socket, bytes) {
  if (!socket.write(bytes) && !socket.isPaused()) {
    socket.pause();
    socket.once('drain', () => socket.resume());
  }
}

const handlers = {
  'echo': (socket) => socket.on('data', (bytes) => write(socket, bytes)),
  // One write for each line, corked, so that they leave together.
  'lines': (socket) => socket.on('data', (bytes) => {
    socket.cork();
    for (let start = 0; start < bytes.length;) {
      const newline = bytes.indexOf(10, start);
      const end = newline < 0 ? bytes.length : newline + 1;
      write(socket, bytes.subarray(start, end));
      start = end;
    }
    socket.uncork();
  }),
  // The buffer is the same one for all.
  'fan-out': (socket) => {
    members.add(socket);
    socket.on('close', () => members.delete(socket));
    socket.on('data', (bytes) => { for (const member of members) member.write(bytes); });
  },
};

const [mode = 'echo', ...rest] = process.argv.slice(2);

function serve(announce) {
  const handle = handlers[mode === 'tls' ? 'echo' : mode];
  const accept = (socket) => {
    socket.on('error', () => socket.destroy());
    handle(socket);
  };
  const options = { noDelay: true };
  const [certificate, key] = rest;
  const server = mode === 'tls'
    ? tls.createServer({ ...options, cert: fs.readFileSync(certificate), key: fs.readFileSync(key) }, accept)
    : net.createServer(options, accept);
  server.listen({ host: '127.0.0.1', port: 0, backlog: 511 }, () => announce(server.address().port));
  process.on('SIGTERM', () => process.exit(0));
}

function serveByWorkers(count) {
  let silent = count;
  let running = count;
  // Port 0 is the same port for all workers.
  cluster.on('listening', (worker, address) => {
    silent -= 1;
    if (silent === 0) announce(address.port);
  });
  cluster.on('exit', () => {
    running -= 1;
    if (running === 0) process.exit(0);
  });
  process.on('SIGTERM', () => {
    for (const worker of Object.values(cluster.workers)) worker.process.kill('SIGTERM');
  });
  for (let number = 0; number < count; number += 1) cluster.fork();
}

function announce(port) {
  console.log(`Listening on port ${port}`);
}

const workers = mode === 'tls' ? 0 : Number(rest[0] ?? 0);
if (cluster.isWorker) serve(() => {});
else if (workers > 0) serveByWorkers(workers);
else serve(announce);

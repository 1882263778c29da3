// Node's client of HTTPS: https.js ROOTS PORT VERSION
//
// Asks twice, the second time with the session of the first, and tells one line for each: the version, the protocol of
// ALPN, whether the session was resumed, and the answer. Then it asks under a name that the certificate is not for.
'use strict';
const fs = require('fs');
const https = require('https');

const [roots, port, version] = process.argv.slice(2);
const agent = new https.Agent({
  ca: fs.readFileSync(roots), minVersion: `TLSv${version}`, maxVersion: `TLSv${version}`,
  ALPNProtocols: ['http/1.1'],
});

function ask(servername) {
  return new Promise((resolve, reject) => {
    const headers = { Connection: 'close' };
    https.get({ agent, host: '127.0.0.1', port, servername, headers }, (response) => {
      const { socket } = response;
      const start = [socket.getProtocol(), socket.alpnProtocol, socket.isSessionReused() ? 'resumed' : 'new'];
      let body = '';
      response.on('data', (piece) => { body += piece; });
      response.on('end', () => { resolve([...start, body.trim()].join(' ')); });
    }).on('error', reject);
  });
}

(async () => {
  console.log(await ask('localhost'));
  console.log(await ask('localhost'));
  await ask('other.test').catch((error) => { console.log(error.code); });
})();

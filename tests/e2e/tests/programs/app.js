// Serves HTTP on descriptor 0. The path is that of a file outside the jail.
const fs = require('fs');
const http = require('http');
const net = require('net');
const os = require('os');
const { Worker } = require('worker_threads');

// A module with a function f, which returns 42. It is compiled to machine code.
const bytes = [
  0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, 0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7f, 0x03, 0x02, 0x01, 0x00,
  0x07, 0x05, 0x01, 0x01, 0x66, 0x00, 0x00, 0x0a, 0x06, 0x01, 0x04, 0x00, 0x41, 0x2a, 0x0b,
];

function compiled() {
  if (typeof WebAssembly === 'undefined') return 'interpreted';
  return new WebAssembly.Instance(new WebAssembly.Module(Uint8Array.from(bytes))).exports.f();
}

function stored() {
  const folder = fs.mkdtempSync('/tmp/app-');
  fs.writeFileSync(`${folder}/file`, 'stored');
  const text = fs.readFileSync(`${folder}/file`, 'utf8');
  fs.rmSync(folder, { recursive: true });
  return text;
}

function content(path) {
  try {
    return fs.readFileSync(path, 'utf8');
  } catch (error) {
    return error.code;
  }
}

const server = http.createServer((request, response) => {
  const worker = new Worker("require('worker_threads').parentPort.postMessage('worker')", { eval: true });
  worker.once('message', (message) => {
    const cpus = os.cpus().length > 0 ? 'cpus' : 'no cpus';
    const used = [compiled(), message, stored(), cpus, os.availableParallelism() > 0];
    response.end([...used, content(request.url)].join(' '));
  });
});
const socket = new net.Socket({ fd: 0 });
socket.on('close', () => process.exit(0));
server.emit('connection', socket);

// Servers: `tine serve` with an observer, its clients, and the made-up API of mock.py.

import net from 'node:net';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { defer } from './cleanup.mjs';
import { Process } from './processes.mjs';

// Generous: other work may hold the machine up.
const DEADLINE = 30000;

const MOCK = fileURLToPath(new URL('../../mock.py', import.meta.url));

/** The path of the `tine` under test. */
export function tine() {
  if (!process.env.TINE) {
    throw new Error('TINE must be the path of tine; scripts/test-dashboard sets it');
  }
  return process.env.TINE;
}

export class Server {
  /** Starts `tine serve` with these options on a free port, and an observer on another one. */
  static async start(t, options = [], program = []) {
    const observe = options.includes('--observe') ? [] : ['--observe', '127.0.0.1:0'];
    const words = [...observe, ...options, '127.0.0.1:0', ...(program.length ? ['--', ...program] : [])];
    return Server.run(t, words);
  }

  static async run(t, words) {
    const server = new Server();
    const all = ['serve', '--log', 'json', '-1', '--control', 'none', ...words];
    server.process = Process.start(t, tine(), all);
    const { out, err } = server.process;
    server.port = Number(await out.find('port', (line) => line).catch((why) => {
      throw new Error(`${why.message}\n${err.lines.join('\n')}`);
    }));
    server.observer = await server.event('observe', (line) => line.address);
    server.url = `http://${server.observer}/`;
    return server;
  }

  /** What `read` makes of a line of the log with this event; programs write other lines. */
  event(name, read = (line) => line) {
    return this.process.err.find(`event ${name}`, (text) => {
      const line = text.startsWith('{"time":') ? JSON.parse(text) : {};
      return line.event === name && read(line);
    });
  }

  /** A client. It is connected for the kernel; `echo` shows that it is served. */
  async connect(t, { port = this.port, from } = {}) {
    return Client.connect(t, port, from);
  }

  async get(path) {
    const response = await this.fetch(path);
    return response.json();
  }

  /** What the observer answers, if it does so in time. */
  async fetch(path) {
    return fetch(this.url + path, { signal: AbortSignal.timeout(DEADLINE) });
  }
}

export class Client {
  static async connect(t, port, from) {
    const client = new Client();
    client.socket = net.connect({ host: '127.0.0.1', port, localAddress: from });
    client.socket.on('error', () => {});
    await once(client.socket, 'connect');
    client.peer = `${client.socket.localAddress}:${client.socket.localPort}`;
    defer(t, () => client.socket.destroy());
    return client;
  }

  /** Sends a text and waits until something comes back. */
  async echo(text = 'x\n') {
    const over = new AbortController();
    const closed = once(this.socket, 'close', { signal: over.signal }).then(() => {
      throw new Error('the server has closed the connection, and has not answered');
    });
    this.socket.write(text);
    try {
      await Promise.race([once(this.socket, 'data', { signal: over.signal }), closed]);
    } finally {
      closed.catch(() => {});
      over.abort();
    }
    return this;
  }

  /** Sends a last text, and waits until the server has closed, too. */
  async finish(text = '') {
    const closed = once(this.socket, 'close');
    this.socket.end(text);
    this.socket.resume();
    await closed;
  }
}

/** Starts mock.py with these options. Returns the address of its page. */
export async function startMock(t, options = []) {
  const mock = Process.start(t, 'python3', [MOCK, '--port', '0', ...options]);
  return mock.out.find('address', (line) => line);
}

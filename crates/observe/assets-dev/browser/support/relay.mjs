// A relay before an observer, which can be cut: both ends live on, as in a break of the network.

import net from 'node:net';
import { once } from 'node:events';
import { defer } from './cleanup.mjs';

export class Relay {
  static async start(t, address) {
    const relay = new Relay();
    relay.sockets = new Set();
    relay.isCut = false;
    const [host, port] = address.split(':');
    relay.server = net.createServer((client) => relay.pass(client, host, Number(port)));
    relay.server.listen(0, '127.0.0.1');
    await once(relay.server, 'listening');
    relay.url = `http://127.0.0.1:${relay.server.address().port}/`;
    defer(t, () => {
      relay.cut();
      relay.server.close();
    });
    return relay;
  }

  pass(client, host, port) {
    client.on('error', () => {});
    if (this.isCut) {
      client.destroy();
      return;
    }
    const observer = net.connect(port, host);
    observer.on('error', () => {});
    for (const [one, other] of [[client, observer], [observer, client]]) {
      this.sockets.add(one);
      one.pipe(other);
      one.once('close', () => {
        this.sockets.delete(one);
        other.destroy();
      });
    }
  }

  /** Ends all connections, and lets none through. */
  cut() {
    this.isCut = true;
    this.sockets.forEach((socket) => socket.destroy());
  }

  mend() {
    this.isCut = false;
  }
}

// Server-sent events through fetch: EventSource cannot send the header with the token.

import { request, Unauthorized } from './api.js';

const FIRST_DELAY = 500;
const LONGEST_DELAY = 15000;
// A sample comes each second. A stream that says nothing for this long is as good as lost.
const SILENCE = 10000;

/** Splits the text of a stream into events. Feed it with pieces of any size. */
export class EventParser {
  constructor(onEvent) {
    this.onEvent = onEvent;
    this.rest = '';
    this.clear();
  }

  clear() {
    this.name = 'message';
    this.data = [];
    this.id = undefined;
  }

  feed(text) {
    const lines = (this.rest + text).split('\n');
    this.rest = lines.pop();
    for (const line of lines) {
      this.line(line.endsWith('\r') ? line.slice(0, -1) : line);
    }
  }

  line(line) {
    if (line === '') {
      if (this.data.length > 0) {
        this.onEvent({ name: this.name, id: this.id, data: this.data.join('\n') });
      }
      this.clear();
      return;
    }
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'data') {
      this.data.push(value);
    } else if (field === 'event') {
      this.name = value;
    } else if (field === 'id') {
      this.id = value;
    }
  }
}

/**
 * Follows `events` for ever. `handlers` has `event(name, data)`, `open()` and
 * `lost(seconds until the next attempt)`.
 */
export class Follower {
  constructor(handlers) {
    this.handlers = handlers;
    this.lastId = null;
    this.delay = FIRST_DELAY;
    this.abort = null;
    this.wake = null;
  }

  async run() {
    for (;;) {
      try {
        await this.once();
      } catch (error) {
        if (error instanceof Unauthorized) {
          await this.pause(24 * 3600 * 1000);
          continue;
        }
      }
      // Jitter, so that many pages do not come back at the same moment.
      const delay = this.delay * (0.75 + Math.random() / 2);
      this.delay = Math.min(this.delay * 2, LONGEST_DELAY);
      this.handlers.lost(delay / 1000);
      await this.pause(delay);
    }
  }

  /** Tries again now: there is a new token, or the network is back. */
  retry() {
    this.delay = FIRST_DELAY;
    this.wake?.();
  }

  pause(milliseconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async once() {
    const abort = new AbortController();
    let silence = setTimeout(() => abort.abort(), SILENCE);
    try {
      const headers = { Accept: 'text/event-stream' };
      if (this.lastId !== null) {
        headers['Last-Event-ID'] = this.lastId;
      }
      const response = await request('events', { headers, signal: abort.signal });
      const parser = new EventParser((event) => this.take(event));
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      this.handlers.open();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) {
          return;
        }
        clearTimeout(silence);
        silence = setTimeout(() => abort.abort(), SILENCE);
        parser.feed(value);
      }
    } finally {
      clearTimeout(silence);
    }
  }

  take(event) {
    if (event.id !== undefined) {
      this.lastId = event.id;
    }
    let data;
    try {
      data = JSON.parse(event.data);
    } catch {
      return;
    }
    this.delay = FIRST_DELAY;
    this.handlers.event(event.name, data);
  }
}

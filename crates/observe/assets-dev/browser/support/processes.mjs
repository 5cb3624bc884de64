// Child processes. None outlives its test, nor the process of the test if that is killed.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { defer } from './cleanup.mjs';

// Generous: other work may hold the machine up.
const DEADLINE = 30000;

/** The command, so that the kernel kills its process with the one that starts it. */
export function bound(command, args) {
  return ['setpriv', ['--pdeathsig', 'KILL', '--', command, ...args]];
}

/** A process with the lines of its two streams. */
export class Process {
  constructor(command, args, options = {}) {
    const [program, words] = bound(command, args);
    this.child = spawn(program, words, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
    this.out = new Lines(this.child.stdout);
    this.err = new Lines(this.child.stderr);
    this.ended = new Promise((resolve) => {
      this.child.once('error', (problem) => resolve(String(problem)));
      this.child.once('exit', (code, signal) => resolve(signal ?? code));
    });
  }

  static start(t, command, args, options) {
    const process = new Process(command, args, options);
    defer(t, () => process.kill());
    return process;
  }

  get pid() {
    return this.child.pid;
  }

  /** Ends it at once. A server's other processes end with its first one. */
  async kill(signal = 'SIGKILL') {
    this.child.kill(signal);
    return this.ended;
  }
}

/** The lines of a stream, those of before included. */
class Lines {
  constructor(stream) {
    this.lines = [];
    this.waiting = [];
    const reader = createInterface({ input: stream });
    reader.on('line', (line) => {
      this.lines.push(line);
      this.wake();
    });
    reader.on('close', () => {
      this.isClosed = true;
      this.wake();
    });
  }

  /** What `read` makes of the first line of which it makes something. */
  async find(what, read) {
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      this.wake();
    }, DEADLINE);
    try {
      for (;;) {
        const found = this.lines.map(read).find((value) => value);
        if (found) {
          return found;
        }
        if (this.isClosed || isLate) {
          throw new Error(`no ${what}; the lines are:\n${this.lines.join('\n')}`);
        }
        await new Promise((resolve) => this.waiting.push(resolve));
      }
    } finally {
      clearTimeout(timer);
    }
  }

  wake() {
    this.waiting.splice(0).forEach((resolve) => resolve());
  }
}

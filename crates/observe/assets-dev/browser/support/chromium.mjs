// The browser. Tests of all files share the one that run.mjs starts; a test file that is run alone
// starts its own.

import puppeteer from 'puppeteer-core';
import { bound } from './processes.mjs';

/** Starts Chromium, `CHROMIUM` or the one of Debian. */
export function launch() {
  const args = puppeteer.defaultArgs({ headless: 'shell', args: ['--disable-gpu'] });
  if (process.getuid() === 0) {
    // It refuses to run as root with a sandbox. It opens pages of this repository only.
    args.push('--no-sandbox');
  }
  const [, words] = bound(process.env.CHROMIUM ?? '/usr/bin/chromium-headless-shell', args);
  return puppeteer.launch({
    executablePath: '/usr/bin/setpriv', args: words, ignoreDefaultArgs: true,
  });
}

let connection;

async function connect() {
  if (process.env.BROWSER_ENDPOINT) {
    const browser = await puppeteer.connect({ browserWSEndpoint: process.env.BROWSER_ENDPOINT });
    return { browser, leave: () => browser.disconnect() };
  }
  const browser = await launch();
  return { browser, leave: () => browser.close() };
}

/** The browser, until `leave` was called as often as this. */
export async function enter() {
  connection ??= { users: 0, ready: connect() };
  connection.users += 1;
  return (await connection.ready).browser;
}

export async function leave() {
  connection.users -= 1;
  if (connection.users === 0) {
    const { ready } = connection;
    connection = undefined;
    await (await ready).leave();
  }
}

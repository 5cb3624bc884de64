// Starts mock.py, asks for its token, stops and starts it again, with two services: see README.md.

import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(join(process.cwd(), 'package.json'));
const puppeteer = require('puppeteer-core');
const MOCK = join(dirname(fileURLToPath(import.meta.url)), 'mock.py');
const PORT = process.argv[2] ?? '8097';
const BASE = `http://127.0.0.1:${PORT}/`;

async function start() {
  const child = spawn('python3', [MOCK, '--port', PORT, '--token', 'secret', '--services', 'git,mail',
    '--history', '60', '--connections', '20'], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => child.stdout.once('data', resolve));
  return child;
}

async function stop(child) {
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
}

const expect = (page, what, test, ...values) =>
  page.waitForFunction(test, { timeout: 25000 }, ...values).then(
    () => console.log(`ok: ${what}`),
    () => {
      console.log(`FAILED: ${what}`);
      process.exitCode = 1;
    },
  );

const isShown = () => /^[0-9]/.test(document.getElementById('connections').textContent);
const isLost = () => !document.getElementById('lost').hidden;

let mock = await start();
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu'],
});
try {
  const page = await browser.newPage();
  page.on('pageerror', (error) => {
    console.log(`FAILED: ${error.message}`);
    process.exitCode = 1;
  });
  await page.goto(BASE);
  await expect(page, 'without a token, the page asks for one', () =>
    document.getElementById('token-dialog').open);
  await page.type('#token', 'wrong');
  await page.keyboard.press('Enter');
  await expect(page, 'with a wrong token, it asks again', () =>
    document.getElementById('token-dialog').open);
  await page.type('#token', 'secret');
  await page.keyboard.press('Enter');
  await expect(page, 'with the right one, it shows connections', isShown);
  await expect(page, 'services can be chosen', () =>
    document.querySelectorAll('#service option').length === 3);
  await page.select('#service', 'mail');
  await expect(page, 'the table has the connections of one service', () => {
    const rows = [...document.querySelectorAll('#rows button')].map((one) => one.textContent);
    return rows.length > 3 && rows.every((text) => text.startsWith('mail:'));
  });
  await stop(mock);
  await expect(page, 'the page says that the observer is gone', isLost);
  mock = await start();
  await expect(page, 'it comes back by itself', () => document.getElementById('lost').hidden);
  const before = await page.$eval('#rows', (node) => node.textContent);
  await expect(page, 'numbers change again', (old) =>
    document.getElementById('rows').textContent !== old, before);

  const other = await browser.newPage();
  await other.goto(`${BASE}#token=secret`);
  await expect(other, 'the token of the address is used', isShown);
  await expect(other, 'and is no longer in the address', () => !location.href.includes('secret'));
} finally {
  await browser.close();
  await stop(mock);
}

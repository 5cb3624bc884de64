// A server with a token: the page asks for it, and keeps it for the tab.

import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { defer } from './support/cleanup.mjs';
import { focused, open, shown, texts, until } from './support/page.mjs';
import { Server } from './support/server.mjs';
import test from './support/test.mjs';

const TOKEN = 'a-token-of-some-length';
// The browser writes a line for each answer that refuses something.
const REFUSED = /status of 401/;

function guarded(t) {
  const folder = mkdtempSync(join(tmpdir(), 'tine-dashboard-'));
  defer(t, () => rmSync(folder, { recursive: true }));
  const file = join(folder, 'token');
  writeFileSync(file, `${TOKEN}\n`);
  chmodSync(file, 0o600);
  return Server.start(t, ['--observe-token', file]);
}

const isAsked = () => document.getElementById('token-dialog').open;

test('the page asks for a token, refuses a wrong one and takes the right one', async (t) => {
  const server = await guarded(t);
  const page = await open(t, server.url, { allowed: REFUSED });
  await until(page, 'the question', isAsked);
  assert.deepEqual(await texts(page, '#connections, #token-problem'), ['–', '']);
  assert.equal(await focused(page), 'token');
  await page.keyboard.type('wrong');
  await page.keyboard.press('Enter');
  await until(page, 'that it was wrong', () => document.getElementById('token-dialog').open
    && document.getElementById('token-problem').textContent !== '');
  assert.deepEqual(await texts(page, '#connections'), ['–']);
  await page.type('#token', TOKEN);
  await page.keyboard.press('Enter');
  await shown(page);
  assert.equal(await page.evaluate(isAsked), false);
  await page.reload();
  await shown(page);
  assert.equal(await page.evaluate(isAsked), false, 'it is kept for the tab');
  assert.equal(await page.evaluate(() => JSON.stringify(localStorage).includes('token')), false,
    'and no longer');
});

test('a token in the address is taken, and leaves the address', async (t) => {
  const server = await guarded(t);
  const page = await open(t, `${server.url}#token=${TOKEN}`);
  await shown(page);
  assert.equal(page.url(), server.url);
  assert.equal(await page.evaluate(isAsked), false);
});

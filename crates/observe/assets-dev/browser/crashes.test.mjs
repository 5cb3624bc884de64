// Crash reports: their groups, and one of them in full.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expectNothing } from './support/axe.mjs';
import { defer } from './support/cleanup.mjs';
import { open, texts, until } from './support/page.mjs';
import { Server } from './support/server.mjs';
import test from './support/test.mjs';

// A word of the client is the signal that ends the process.
const PROGRAM = ['sh', '-c', 'echo "last words" >&2; read -r word; kill -s "$word" $$'];

test('reports are grouped by cause, and each can be read', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'tine-crashes-'));
  defer(t, () => rmSync(folder, { recursive: true }));
  const server = await Server.start(t, ['--crash-dir', folder], PROGRAM);
  for (const signal of ['ABRT', 'BUS', 'ABRT']) {
    await (await server.connect(t)).finish(`${signal}\n`);
    await server.event('crash', (line) => line.cause === `signal ${signal}`);
  }
  const page = await open(t, server.url);
  // Groups of crashes are asked for each 15 s, and when the page is opened.
  await until(page, 'all reports', () => document.querySelectorAll('#crashes button').length === 3);
  assert.deepEqual(await texts(page, '#crashes th'), ['signal ABRT', 'signal BUS']);
  assert.deepEqual(await texts(page, '#crashes td.number'), ['2', '1']);
  assert.deepEqual(await texts(page, '#crashes-of'), ['3 reports in 2 groups of one cause each.']);
  await page.$eval('#crashes button', (button) => button.focus());
  await page.keyboard.press('Enter');
  await page.waitForSelector('#report[open] dd');
  const words = Object.fromEntries((await texts(page, '#report-list dt')).map((name, at) => [name, at]));
  const values = await texts(page, '#report-list dd');
  assert.equal(values[words.Cause], 'signal ABRT');
  assert.equal(values[words.Connection], '3');
  assert.match(values[words.Program], /^sh -c echo/);
  assert.deepEqual(await texts(page, '#report-stderr'), ['last words']);
  await expectNothing(page, '#report');
  await page.keyboard.press('Escape');
  await until(page, 'the dialog is closed', () => !document.getElementById('report').open);
});

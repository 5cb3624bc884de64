// On a phone the page is as wide as the screen, and the table can be used.

import assert from 'node:assert/strict';
import { connections, open, PHONE, rows, texts, until } from './support/page.mjs';
import { Server } from './support/server.mjs';
import test from './support/test.mjs';

test('a phone shows all without scrolling sideways', async (t) => {
  const server = await Server.start(t, ['--name', 'a-server-with-a-rather-long-name']);
  for (let i = 0; i < 30; i += 1) {
    await (await server.connect(t)).echo();
  }
  const page = await open(t, server.url, { size: { ...PHONE, isMobile: true, hasTouch: true } });
  await connections(page, 30);
  await until(page, 'the settings', () => document.querySelectorAll('#settings tr').length > 3);
  const [wide, shown] = await page.evaluate(() =>
    [document.documentElement.scrollWidth, visualViewport.width]);
  assert.deepEqual([wide, shown], [PHONE.width, PHONE.width]);
  const box = await (await page.$('#rows-box')).boundingBox();
  assert.ok(box.x >= 0 && box.x + box.width <= PHONE.width, JSON.stringify(box));
});

test('a finger sorts, scrolls and opens details', async (t) => {
  const server = await Server.start(t);
  for (let i = 0; i < 30; i += 1) {
    await (await server.connect(t)).echo();
  }
  const page = await open(t, server.url, { size: { ...PHONE, isMobile: true, hasTouch: true } });
  await until(page, 'the rows', () => document.getElementById('rows-total').textContent === '30 live');
  // Who a connection is from is in view without scrolling.
  const edge = await page.$eval('#rows .peer', (cell) => cell.getBoundingClientRect().right);
  assert.ok(edge <= PHONE.width, `the client ends at ${edge}`);
  await page.tap('#rows-head [data-sort=id]');
  await until(page, 'the oldest', () => document.querySelector('#rows button').textContent === '1');
  await page.$eval('#rows-box', (one) => {
    one.scrollTop = one.scrollHeight;
  });
  await until(page, 'the newest', () =>
    [...document.querySelectorAll('#rows button')].some((one) => one.textContent === '30'));
  assert.equal((await rows(page)).at(-1)[0], '30');
  await page.$eval('#rows-box', (one) => {
    one.scrollLeft = one.scrollWidth;
  });
  const state = await page.$eval('.c-bytes:last-child', (cell) => cell.getBoundingClientRect().right);
  assert.ok(state <= PHONE.width, 'the last column comes into view');
  await page.$eval('#rows-box', (one) => {
    one.scrollLeft = 0;
  });
  await page.tap('#rows button[aria-label="Connection 30, details"]');
  await page.waitForSelector('#details[open] dd');
  const dialog = await (await page.$('#details')).boundingBox();
  assert.ok(dialog.x >= 0 && dialog.x + dialog.width <= PHONE.width, JSON.stringify(dialog));
  await page.tap('#details-close');
  await until(page, 'the dialog closed', () => !document.getElementById('details').open);
  assert.deepEqual(await texts(page, '#lost-text'), ['']);
});

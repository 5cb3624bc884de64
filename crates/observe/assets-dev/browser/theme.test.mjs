// The two themes: that of the system, until the reader chooses one.

import assert from 'node:assert/strict';
import { open, shown, texts, until } from './support/page.mjs';
import { Server } from './support/server.mjs';
import test from './support/test.mjs';

const look = (page) => page.evaluate(() => [
  document.documentElement.dataset.theme, getComputedStyle(document.body).backgroundColor]);

test('the page has the theme of the system, and follows it', async (t) => {
  const server = await Server.start(t);
  const page = await open(t, server.url, { theme: 'light' });
  const [theme, light] = await look(page);
  assert.equal(theme, 'light');
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: 'dark' }]);
  await until(page, 'the dark theme', () => document.documentElement.dataset.theme === 'dark');
  const [, dark] = await look(page);
  assert.notEqual(dark, light);
});

test('the theme that was chosen is remembered', async (t) => {
  const server = await Server.start(t);
  const page = await open(t, server.url, { theme: 'dark' });
  await shown(page);
  const [, dark] = await look(page);
  assert.deepEqual(await texts(page, '#theme'), ['Light theme']);
  await page.click('#theme');
  const [theme, light] = await look(page);
  assert.equal(theme, 'light');
  assert.notEqual(light, dark);
  assert.deepEqual(await texts(page, '#theme'), ['Dark theme']);
  await page.reload();
  assert.deepEqual(await look(page), ['light', light]);
  await page.click('#theme');
  await page.reload();
  assert.deepEqual(await look(page), ['dark', dark]);
});

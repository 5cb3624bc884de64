// The page loads, from its own origin alone, under a policy that lets no other script run.

import assert from 'node:assert/strict';
import { connections, open, shown, texts, until } from './support/page.mjs';
import { Server } from './support/server.mjs';
import test from './support/test.mjs';

test('the page loads and says which server it shows', async (t) => {
  const server = await Server.start(t, ['--name', 'orchard']);
  const page = await open(t, server.url);
  await shown(page);
  await until(page, 'the name', () =>
    document.getElementById('server-name').textContent === 'orchard');
  const words = await page.$eval('#server-words', (node) => node.textContent);
  assert.match(words, new RegExp(`^tine \\d.*, on 127\\.0\\.0\\.1:${server.port}, up for`));
  assert.deepEqual(await texts(page, '#phase'), ['serving']);
  await connections(page, 0);
  await until(page, 'its processes', () =>
    document.getElementById('processes').textContent.includes('supervisor'));
});

test('a script that is not a file of the server does not run', async (t) => {
  const server = await Server.start(t);
  const refused = /violates the following Content Security Policy directive/;
  const page = await open(t, server.url, { allowed: refused });
  const answer = await page.reload();
  const policy = answer.headers()['content-security-policy'];
  assert.match(policy, /^default-src 'none'; script-src 'self'; style-src 'self';/);
  assert.doesNotMatch(policy, /unsafe|\*/);
  const said = new Promise((resolve) => page.on('console', (message) => {
    if (refused.test(message.text())) {
      resolve();
    }
  }));
  await page.evaluate(() => {
    const script = document.createElement('script');
    script.textContent = 'globalThis.intruder = true;';
    document.body.append(script);
  });
  await said;
  assert.equal(await page.evaluate(() => globalThis.intruder), undefined);
});

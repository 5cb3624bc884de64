// Clients that were rejected: how many, and for which reasons.

import assert from 'node:assert/strict';
import { connections, open, texts, until } from './support/page.mjs';
import { Server } from './support/server.mjs';
import test from './support/test.mjs';

test('rejections are counted by reason, and reasons without any are left out', async (t) => {
  const server = await Server.start(t, ['--max-connections-per-source', '2', '--deny', '127.0.0.9']);
  const page = await open(t, server.url);
  await connections(page, 0);
  assert.deepEqual(await texts(page, '#refusals tr'), ['No client was rejected or delayed.']);
  for (let i = 0; i < 2; i += 1) {
    await (await server.connect(t)).echo();
  }
  for (const from of ['127.0.0.1', '127.0.0.1', '127.0.0.1', '127.0.0.9']) {
    await (await server.connect(t, { from })).finish();
  }
  await until(page, 'both reasons', () => document.querySelectorAll('#refusals tr').length === 2);
  await until(page, 'all of them', () =>
    document.querySelector('#refusals td').textContent === '3');
  assert.deepEqual(await texts(page, '#refusals th'), ['source', 'denied']);
  assert.deepEqual(await texts(page, '#refusals td.number'), ['3', '75\u00a0%', '0', '1', '25\u00a0%', '0']);
  await until(page, 'the legend of the plot', () =>
    [...document.querySelectorAll('[aria-labelledby=plot-rejected] .legend li span:nth-child(2)')]
      .map((one) => one.textContent).join(' ') === 'denied source');
  await connections(page, 2);
});

// A connection is on the page within a second of its beginning, and gone within one of its end.
//
// Browser and test read the same clock, that of the machine. The test takes the time before it
// connects or closes; an observer in the page takes the time when the number in it changes. The
// server is sampled each second, so a change waits for half a second on average. The tests begin
// at different phases of that second, and the median of the delays is compared with the promise:
// a machine that is held up once does not fail it, and a page that is late as a rule does.

import assert from 'node:assert/strict';
import { connections, open, rows, texts, until } from './support/page.mjs';
import { Server } from './support/server.mjs';
import test from './support/test.mjs';

const PROMISED = 1000;
const ATTEMPTS = 5;

/** Makes the page remember when the number of connections changes. */
function watchNumber(page) {
  return page.evaluate(() => {
    const node = document.getElementById('connections');
    globalThis.changes = [];
    new MutationObserver(() => globalThis.changes.push([node.textContent, Date.now()]))
      .observe(node, { childList: true, characterData: true, subtree: true });
  });
}

/** The time from `act` until the page shows `number`. */
async function delay(page, number, act) {
  await page.evaluate(() => {
    globalThis.changes.length = 0;
  });
  const before = Date.now();
  await act();
  await connections(page, number);
  const changes = await page.evaluate(() => globalThis.changes);
  const [, at] = changes.find(([text]) => text === String(number));
  return at - before;
}

/**
 * Lets a part of the second pass that begins with the sample just shown. This is no wait for
 * something to happen: it chooses the phase that is measured.
 */
const phase = (part) => new Promise((resolve) => setTimeout(resolve, 1000 * part));

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

test('a connection appears within a second, and goes within a second', async (t) => {
  const server = await Server.start(t);
  const page = await open(t, server.url, { moves: true });
  await connections(page, 0);
  await watchNumber(page);
  const appeared = [];
  const gone = [];
  for (let i = 0; i < ATTEMPTS; i += 1) {
    let client;
    await phase(i / ATTEMPTS);
    appeared.push(await delay(page, 1, async () => {
      client = await server.connect(t);
      await client.echo();
    }));
    await phase(1 - i / ATTEMPTS);
    gone.push(await delay(page, 0, () => client.finish()));
  }
  t.diagnostic(`appeared after ${appeared} ms, gone after ${gone} ms`);
  assert.ok(median(appeared) <= PROMISED, `appeared after ${appeared} ms`);
  assert.ok(median(gone) <= PROMISED, `gone after ${gone} ms`);
});

test('the table and the picture have it, too, and say how it ended', async (t) => {
  const server = await Server.start(t, [], ['sh', '-c', 'read line; echo $line; read line; exit 7']);
  const page = await open(t, server.url, { moves: true });
  const client = await server.connect(t);
  await client.echo();
  await connections(page, 1);
  await until(page, 'a row', (peer) => {
    const row = document.querySelector('#rows tr:not(.spacer)');
    return row?.cells[1].textContent === peer;
  }, client.peer);
  const [[id, , state]] = await rows(page);
  assert.deepEqual([id, state], ['1', 'serving']);
  await until(page, 'a tine', (peer) =>
    document.querySelector('.tine:not(.is-ended) .tine-label')?.textContent === `1  ${peer}`, client.peer);
  await client.finish();
  await until(page, 'the mark of its end', () =>
    document.querySelector('.tine.is-ended.end-exit .tine-label')?.textContent.startsWith('exit 7'));
  await until(page, 'an empty table', () => !document.getElementById('rows-nothing').hidden);
  assert.deepEqual(await texts(page, '.end-count[data-end=exit]'), ['1']);
  await page.click('input[name=ended][value=true]');
  await until(page, 'its outcome', () =>
    document.querySelector('#rows .state')?.textContent === 'exit 7');
});

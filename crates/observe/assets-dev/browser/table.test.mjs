// The table: sorting, searching, filters, and the dialog with all that is known of a connection.

import assert from 'node:assert/strict';
import { open, rows, texts, until } from './support/page.mjs';
import { Server } from './support/server.mjs';
import test from './support/test.mjs';

// Each line comes back; a word of the client says how its process ends.
const PROGRAM = ['sh', '-c', `while read -r word; do
  case $word in fail) exit 3 ;; crash) kill -s SEGV $$ ;; esac
  echo "$word"
done`];

/** Waits until a column of the table is this. */
function column(page, number, expected) {
  return until(page, `column ${number} is ${expected}`, (at, wanted) => {
    const all = [...document.querySelectorAll('#rows tr:not(.spacer)')];
    return JSON.stringify(all.map((row) => row.cells[at].textContent)) === wanted;
  }, number, JSON.stringify(expected));
}

/** A server with three clients that differ in address, age and bytes. */
async function three(t) {
  const server = await Server.start(t, [], PROGRAM);
  const clients = [];
  for (const [from, length] of [['127.0.0.3', 1], ['127.0.0.1', 300], ['127.0.2.2', 30]]) {
    const text = 'x'.repeat(length);
    clients.push(await (await server.connect(t, { from })).echo(`${text}\n`));
  }
  return { server, clients };
}

async function sortBy(page, name, order) {
  await page.click(`#rows-head button[data-sort=${name}]`);
  const sorted = await page.$$eval('#rows-head [aria-sort]:not([aria-sort=none])', (heads) =>
    heads.map((head) => [head.querySelector('button').dataset.sort, head.getAttribute('aria-sort')]));
  assert.deepEqual(sorted, [[name, order]]);
}

test('each column sorts, both ways', async (t) => {
  const { server, clients } = await three(t);
  const page = await open(t, server.url);
  const [low, high, other] = clients.map((client) => client.peer);
  await column(page, 0, ['3', '2', '1']);
  await sortBy(page, 'id', 'ascending');
  await column(page, 0, ['1', '2', '3']);
  await sortBy(page, 'peer', 'ascending');
  await column(page, 1, [high, low, other]);
  await sortBy(page, 'peer', 'descending');
  await column(page, 1, [other, low, high]);
  await sortBy(page, 'age', 'descending');
  await column(page, 0, ['1', '2', '3']);
  await sortBy(page, 'age', 'ascending');
  await column(page, 0, ['3', '2', '1']);
  await sortBy(page, 'bytes_in', 'descending');
  await column(page, 4, ['301\u00a0B', '31\u00a0B', '2\u00a0B']);
  await sortBy(page, 'bytes_out', 'descending');
  await sortBy(page, 'bytes_out', 'ascending');
  await column(page, 5, ['2\u00a0B', '31\u00a0B', '301\u00a0B']);
});

test('search and address block choose rows, and say so when none is left', async (t) => {
  const { server, clients } = await three(t);
  const page = await open(t, server.url, { allowed: /status of 400/ });
  await column(page, 0, ['3', '2', '1']);
  await page.type('#search', clients[1].peer);
  await column(page, 0, ['2']);
  assert.deepEqual(await texts(page, '#rows-total'), ['1 live']);
  await page.type('#search', 'nobody');
  await until(page, 'that none matches', () => !document.getElementById('rows-nothing').hidden);
  await clear(page, '#search');
  await page.type('#peer', '127.0.0.0/24');
  await column(page, 0, ['2', '1']);
  await page.type('#peer', 'x');
  await until(page, 'what is wrong', () =>
    document.getElementById('rows-problem').textContent.startsWith('The table could not be read'));
  await clear(page, '#peer');
  await column(page, 0, ['3', '2', '1']);
  assert.deepEqual(await texts(page, '#rows-problem'), ['']);
});

async function clear(page, selector) {
  await page.click(selector, { count: 3 });
  await page.keyboard.press('Backspace');
}

test('live and ended connections are apart, and the search finds states and outcomes', async (t) => {
  const { server, clients } = await three(t);
  const page = await open(t, server.url);
  await clients[0].finish('fail\n');
  await clients[1].finish('crash\n');
  await column(page, 0, ['3']);
  await page.type('#search', 'serving');
  await column(page, 2, ['serving']);
  await clear(page, '#search');
  await page.click('input[name=ended][value=true]');
  await until(page, 'both ends', () => document.querySelectorAll('#rows .state svg.end-mark').length === 2);
  assert.deepEqual(await texts(page, '#state-head, #age-head'), ['Outcome', 'Duration']);
  const outcomes = new Map((await rows(page)).map(([id, , outcome]) => [id, outcome]));
  assert.equal(outcomes.get('1'), 'exit 3');
  assert.match(outcomes.get('2'), /^signal SEGV/);
  await page.type('#search', 'signal');
  await column(page, 0, ['2']);
  await clear(page, '#search');
  await page.click('input[name=ended][value=false]');
  await column(page, 0, ['3']);
  // Groups of crashes are asked for each 15 s, and when the page is opened.
  await page.reload();
  await until(page, 'a group of crashes', () =>
    document.querySelector('#crashes th')?.textContent.startsWith('signal SEGV'));
});

test('the dialog has the details of the row', async (t) => {
  const { server, clients } = await three(t);
  const page = await open(t, server.url);
  await column(page, 0, ['3', '2', '1']);
  await page.click('#rows button[aria-label="Connection 2, details"]');
  await page.waitForSelector('#details[open]');
  assert.deepEqual(await texts(page, '#details-title'), ['Connection 2']);
  const names = await texts(page, '#details-list dt');
  const values = await texts(page, '#details-list dd');
  const known = new Map(names.map((name, i) => [name, values[i]]));
  assert.equal(known.get('Client'), clients[1].peer);
  assert.equal(known.get('State'), 'serving');
  assert.equal(known.get('Bytes in'), '301\u00a0B');
  assert.match(known.get('Process'), /^\d+$/);
  await page.click('#details-close');
  await until(page, 'the dialog closed', () => !document.getElementById('details').open);
});

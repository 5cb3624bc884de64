// Many connections: the table has the right rows wherever it is scrolled, and the page answers.
//
// 2,000 connections are real. 10,000 real ones need as many processes, a third of all process ids
// that Linux has by default, and 24 s of processor time with a binary that is not optimized: longer
// than all other tests together. mock.py has 10,000; to the page it makes no difference.

import assert from 'node:assert/strict';
import { connections, open, rows, texts, until } from './support/page.mjs';
import { Process } from './support/processes.mjs';
import { Server, startMock, tine } from './support/server.mjs';
import test from './support/test.mjs';

const REAL = 2000;
const ALL = 10000;
// What a reader takes for immediate is 100 ms. A task that is longer than this is no matter of a
// busy machine: work that grows with the connections takes seconds.
const LONGEST_TASK = 500;
const MEDIAN_FRAME = 100;

/** Scrolls to a part of the table, and waits until the rows in view are there. */
async function scrollTo(page, part) {
  await page.$eval('#rows-box', (box, share) => {
    box.scrollTop = share * (box.scrollHeight - box.clientHeight);
  }, part);
  await until(page, `rows at ${part}`, (share) => {
    const box = document.getElementById('rows-box');
    const all = [...document.querySelectorAll('#rows tr:not(.spacer)')];
    const isThere = Math.abs(box.scrollTop - share * (box.scrollHeight - box.clientHeight)) < 2;
    const first = Number(all[0]?.getAttribute('aria-rowindex')) - 2;
    const isDrawn = first * 38 <= box.scrollTop && (first + all.length) * 38 >= box.scrollTop + 400;
    return isThere && isDrawn && all.every((row) => !row.classList.contains('is-loading'));
  }, part);
}

/** Checks that the ids in view go down one by one, from `first` or to `last`. */
async function expectIds(page, { first, last }) {
  const ids = (await rows(page)).map(([id]) => Number(id));
  assert.ok(ids.length >= 10, `${ids}`);
  const from = first ?? last + ids.length - 1;
  assert.deepEqual(ids, Array.from(ids, (_, i) => from - i));
}

/** Checks the rows at the top, in the middle and at the end, the newest being on top. */
async function expectRows(page, number) {
  assert.deepEqual(await texts(page, '#rows-total'), [`${number.toLocaleString('en')} live`]);
  await expectIds(page, { first: number });
  await scrollTo(page, 0.5);
  const index = await page.$eval('#rows tr:nth-child(8)', (row) =>
    Number(row.getAttribute('aria-rowindex')) - 2);
  const [id] = await texts(page, '#rows tr:nth-child(8) button');
  assert.equal(Number(id), number - index);
  const ids = (await rows(page)).map(([one]) => Number(one));
  assert.ok(ids[0] > number / 2 && ids.at(-1) < number / 2, `${ids}`);
  await expectIds(page, { first: ids[0] });
  await scrollTo(page, 1);
  await expectIds(page, { last: 1 });
  const existing = await page.$$eval('#rows tr', (all) => all.length);
  assert.ok(existing < 50, `${existing} rows exist`);
}

/** Scrolls through the table for 40 frames. Returns the longest task and the median frame. */
function scrollThrough(page) {
  return page.evaluate(async () => {
    let longest = 0;
    const observer = new PerformanceObserver((list) => list.getEntries().forEach((entry) => {
      longest = Math.max(longest, entry.duration);
    }));
    observer.observe({ type: 'longtask' });
    const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
    const box = document.getElementById('rows-box');
    const frames = [];
    let before = await frame();
    for (let i = 0; i < 40; i += 1) {
      box.scrollTop = ((i % 20) / 20) * box.scrollHeight;
      const now = await frame();
      frames.push(now - before);
      before = now;
    }
    observer.disconnect();
    return { longest, median: frames.sort((a, b) => a - b)[20] };
  });
}

async function expectGroups(page, number) {
  await until(page, 'groups', () => document.querySelectorAll('.strand').length > 0);
  assert.equal(await page.$$eval('.tine', (tines) => tines.length), 0, 'none is drawn alone');
  const parts = await texts(page, '.strand-number');
  const sum = parts.reduce((all, text) => all + Number(text.replaceAll(',', '')), 0);
  assert.equal(sum, number, parts.join(' '));
}

test('2,000 connections of a server', async (t) => {
  const server = await Server.start(t, ['-c', String(REAL + 100)]);
  const hold = ['load', 'hold', `127.0.0.1:${server.port}`, '-c', String(REAL), '--size', '0',
    '-d', '5min'];
  Process.start(t, 'sh', ['-c', 'ulimit -n $(ulimit -H -n); exec "$@"', 'sh', tine(), ...hold]);
  const page = await open(t, server.url);
  await connections(page, REAL);
  await until(page, 'the rows', (text) =>
    document.getElementById('rows-total').textContent === text, '2,000 live');
  await scrollTo(page, 0);
  await expectRows(page, REAL);
  await expectGroups(page, REAL);
});

test('10,000 connections of a made-up API', async (t) => {
  const url = await startMock(t, ['--connections', String(ALL), '--history', '0', '--still']);
  const page = await open(t, url);
  await connections(page, ALL);
  await scrollTo(page, 0);
  await expectRows(page, ALL);
  await expectGroups(page, ALL);
  // The best of three: the first may have to compile, and other work may hold the machine up.
  const measured = [await scrollThrough(page), await scrollThrough(page), await scrollThrough(page)];
  t.diagnostic(JSON.stringify(measured));
  assert.ok(Math.min(...measured.map((one) => one.longest)) < LONGEST_TASK, JSON.stringify(measured));
  assert.ok(Math.min(...measured.map((one) => one.median)) < MEDIAN_FRAME, JSON.stringify(measured));
});

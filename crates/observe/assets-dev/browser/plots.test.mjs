// The zoom of the plots, by mouse, keyboard and buttons. mock.py has the hour of samples that a
// server would need an hour for.

import assert from 'node:assert/strict';
import { open, shown, texts, until } from './support/page.mjs';
import { startMock } from './support/server.mjs';
import test from './support/test.mjs';

/** The page with an hour of samples, still, and the numbers of all plots open. */
async function hour(t) {
  const page = await open(t, await startMock(t, ['--connections', '24']));
  await shown(page);
  await until(page, 'all plots', () => document.querySelectorAll('#plots .u-over').length === 5);
  await page.click('#pause');
  await page.$$eval('.plot details', (list) => list.forEach((one) => {
    one.open = true;
  }));
  await until(page, 'their numbers', () =>
    [...document.querySelectorAll('.plot tbody')].every((body) => body.rows.length > 0));
  return page;
}

/** The numbers of each plot, in the time that it shows. */
const numbers = (page) => texts(page, '.plot tbody');

async function drag(page, from, to) {
  const plot = await page.$('#plots .u-over');
  await plot.scrollIntoView();
  const box = await plot.boundingBox();
  await page.mouse.move(box.x + box.width * from, box.y + 40);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * to, box.y + 40, { steps: 5 });
  await page.mouse.up();
}

/** The seconds of a text such as `12:00:05 to 12:18:07`. */
function span(text) {
  const [from, to] = text.split(' to ').map((clock) => {
    const [hours, minutes, seconds] = clock.split(':').map(Number);
    return (hours * 60 + minutes) * 60 + seconds;
  });
  return (to - from + 86400) % 86400;
}

const isWhole = () => document.getElementById('zoom-reset').disabled;

test('dragging across one plot zooms all of them, a double click resets', async (t) => {
  const page = await hour(t);
  const before = await numbers(page);
  await drag(page, 0.5, 0.8);
  await until(page, 'a zoom', () => !document.getElementById('zoom-reset').disabled);
  const [text] = await texts(page, '#zoom-text');
  assert.ok(Math.abs(span(text) - 0.3 * 3600) < 60, text);
  const zoomed = await numbers(page);
  zoomed.forEach((one, i) => assert.notEqual(one, before[i], `plot ${i}`));
  const box = await (await page.$('#plots .u-over')).boundingBox();
  await page.mouse.click(box.x + 50, box.y + 50, { count: 2 });
  await until(page, 'the whole hour', isWhole);
  assert.deepEqual(await texts(page, '#zoom-text'), ['']);
  (await numbers(page)).forEach((one, i) => assert.notEqual(one, zoomed[i], `plot ${i}`));
});

test('buttons show minutes, by keyboard, too', async (t) => {
  const page = await hour(t);
  const pressed = () => texts(page, '#zoom [aria-pressed=true]');
  const before = await numbers(page);
  assert.deepEqual(await pressed(), ['1\u00a0hour']);
  await page.focus('#zoom [data-span="300"]');
  await page.keyboard.press('Enter');
  assert.deepEqual(await pressed(), ['5\u00a0min']);
  const five = await numbers(page);
  five.forEach((one, i) => assert.notEqual(one, before[i], `plot ${i}`));
  await page.keyboard.press('Tab');
  await page.keyboard.press('Space');
  assert.deepEqual(await pressed(), ['15\u00a0min']);
  const fifteen = await numbers(page);
  assert.notDeepEqual(fifteen, five);
  await page.focus('#zoom-reset');
  await page.keyboard.press('Enter');
  await until(page, 'the whole hour', isWhole);
  assert.deepEqual(await pressed(), ['1\u00a0hour']);
  assert.notDeepEqual(await numbers(page), fifteen);
});

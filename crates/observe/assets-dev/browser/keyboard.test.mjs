// Everything can be reached and used by keyboard alone, and one sees where one is.

import assert from 'node:assert/strict';
import { connections, focused, open, texts, until } from './support/page.mjs';
import { Server } from './support/server.mjs';
import test from './support/test.mjs';

/** A page whose table and panels have something to reach. */
async function filled(t) {
  const server = await Server.start(t);
  for (let i = 0; i < 3; i += 1) {
    await (await server.connect(t)).echo();
  }
  const page = await open(t, server.url);
  await connections(page, 3);
  await until(page, 'the rows', () => document.querySelectorAll('#rows button').length === 3);
  await until(page, 'the panels', () => document.querySelectorAll('#settings tr').length > 3);
  return page;
}

/** All that can be used, in the order of the document; of radio buttons, the one that is checked. */
const usable = () => [...document.querySelectorAll(
  'a[href], button, input, select, textarea, summary, [tabindex]')].filter((node) =>
  node.tabIndex >= 0 && !node.disabled && node.checkVisibility()
    && !(node.type === 'radio' && !node.checked));

/** Presses Tab until the focus has left the page. Returns what had it, and what did not show it. */
async function walk(page) {
  const order = [];
  const unseen = [];
  for (;;) {
    await page.keyboard.press('Tab');
    const [at, isSeen, name] = await page.evaluate(() => {
      const node = document.activeElement;
      // A radio button of a switch is transparent: its label shows the focus.
      const shows = node.matches('.switch input') ? node.nextElementSibling : node;
      const { outlineStyle, outlineWidth } = getComputedStyle(shows);
      const { width, height, bottom, top } = shows.getBoundingClientRect();
      const isSeen = outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2 && width * height > 0
        && bottom > 0 && top < innerHeight;
      return [globalThis.usable.indexOf(node), isSeen, node.outerHTML.slice(0, 80)];
    });
    if (name.startsWith('<body')) {
      return { order, unseen };
    }
    order.push(at >= 0 ? at : name);
    if (!isSeen) {
      unseen.push(name);
    }
    assert.ok(order.length < 300, 'the focus does not leave the page');
  }
}

test('Tab visits all that can be used, in order, and each shows the focus', async (t) => {
  const page = await filled(t);
  await page.evaluate(`globalThis.usable = (${usable})()`);
  const number = await page.evaluate(() => globalThis.usable.length);
  assert.ok(number > 20, `${number} can be used`);
  const { order, unseen } = await walk(page);
  assert.deepEqual(order, Array.from({ length: number }, (_, i) => i));
  assert.deepEqual(unseen, []);
});

test('the first Tab offers to skip to the content', async (t) => {
  const page = await filled(t);
  await page.keyboard.press('Tab');
  assert.equal(await focused(page), 'Skip to the content');
  const box = await (await page.$('.skip')).boundingBox();
  assert.ok(box.y >= 0, 'it is in view');
  await page.keyboard.press('Enter');
  assert.equal(await focused(page), 'main');
});

test('Enter opens details and Escape closes them, where one was', async (t) => {
  const page = await filled(t);
  await page.focus('#rows tr:nth-child(3) button');
  const name = await focused(page);
  await page.keyboard.press('Enter');
  await page.waitForSelector('#details[open] dd');
  assert.equal(`${(await texts(page, '#details-title'))[0]}, details`, name);
  assert.equal(await focused(page), 'details-close');
  // The rest of the page is out of reach meanwhile.
  await page.keyboard.press('Tab');
  assert.ok(await page.evaluate(() => document.activeElement === document.body
    || document.getElementById('details').contains(document.activeElement)));
  await page.keyboard.press('Escape');
  await until(page, 'the dialog closed', () => !document.getElementById('details').open);
  assert.equal(await focused(page), name);
});

test('arrows choose, Space presses, and typing searches', async (t) => {
  const page = await filled(t);
  await page.focus('input[name=ended]:checked');
  await page.keyboard.press('ArrowRight');
  await until(page, 'ended connections', () =>
    document.getElementById('state-head').textContent === 'Outcome');
  await page.keyboard.press('ArrowLeft');
  await until(page, 'live ones', () => document.getElementById('state-head').textContent === 'State');
  await page.focus('#rows-head [data-sort=id]');
  await page.keyboard.press('Space');
  await until(page, 'the other order', () =>
    document.querySelector('#rows tr:not(.spacer) button').textContent === '1');
  await page.focus('#search');
  await page.keyboard.type('no such');
  await until(page, 'that none matches', () => !document.getElementById('rows-nothing').hidden);
  await page.focus('#theme');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'light');
});

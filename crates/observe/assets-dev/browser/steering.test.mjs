// What changes the server: each after a question whose first answer is no, by keyboard too, with
// the result in words.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { defer } from './support/cleanup.mjs';
import { connections, focused, open, PHONE, shown, texts, until } from './support/page.mjs';
import { Server, startMock } from './support/server.mjs';
import test from './support/test.mjs';

const TOKEN = 'a-token-of-some-length';
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

function folder(t) {
  const path = mkdtempSync(join(tmpdir(), 'tine-steering-'));
  defer(t, () => rmSync(path, { recursive: true }));
  const file = join(path, 'token');
  writeFileSync(file, `${TOKEN}\n`);
  chmodSync(file, 0o600);
  return path;
}

/** A server that its observer steers. */
function steered(t) {
  return Server.start(t, ['--observe-token', join(folder(t), 'token'), '--observe-control']);
}

/** Opens its page, once it can be steered. */
async function opened(t, server, options) {
  const page = await open(t, `${server.url}#token=${TOKEN}`, options);
  await until(page, 'what steers', () => !document.getElementById('steering').hidden);
  return page;
}

async function echoing(t, server, number, from) {
  const clients = [];
  for (let i = 0; i < number; i += 1) {
    clients.push(await (await server.connect(t, { from })).echo());
  }
  return clients;
}

const text = (page, id) => page.$eval(`#${id}`, (node) => node.textContent);
const isOpen = (page, id) => page.$eval(`#${id}`, (node) => node.open);

function says(page, id, words) {
  return until(page, `'${words}' in #${id}`, (where, wanted) =>
    document.getElementById(where).textContent === wanted, id, words);
}

/** Waits for the question, and checks that the answer no has the focus. */
async function asked(page, title) {
  await page.waitForSelector('#confirm[open]');
  assert.equal(await text(page, 'confirm-title'), title);
  assert.equal(await focused(page), 'confirm-cancel');
}

test('without the option there is nothing to steer with', async (t) => {
  const server = await Server.start(t);
  await echoing(t, server, 1);
  const page = await open(t, server.url);
  await shown(page);
  await until(page, 'the settings and the row', () => document.querySelectorAll('#settings tr').length > 3
    && document.querySelectorAll('#rows button').length === 1);
  await page.click('#rows tr:not(.spacer) button');
  await page.waitForSelector('#details[open] dd');
  const seen = await page.$$eval('#steering, #kill-matching, #details-actions', (nodes) =>
    nodes.filter((node) => node.checkVisibility()).length);
  assert.equal(seen, 0);
});

test('a connection is killed by keyboard, and only by the second answer', async (t) => {
  const server = await steered(t);
  const [client] = await echoing(t, server, 1);
  const page = await opened(t, server);
  await until(page, 'the row', () => document.querySelectorAll('#rows button').length === 1);
  await page.focus('#rows tr:not(.spacer) button');
  await page.keyboard.press('Enter');
  await page.waitForSelector('#details[open] dd');
  for (const refusal of ['Escape', 'Enter']) {
    await page.focus('#details-kill');
    await page.keyboard.press('Enter');
    await asked(page, 'Kill connection 1?');
    await page.keyboard.press(refusal);
    await until(page, 'no question', () => !document.getElementById('confirm').open);
    assert.equal(await focused(page), 'details-kill');
    assert.equal(await isOpen(page, 'details'), true);
  }
  await client.echo();
  await page.keyboard.press('Enter');
  await asked(page, 'Kill connection 1?');
  const closed = once(client.socket, 'close');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await closed;
  await says(page, 'details-result', 'Connection 1 has ended.');
  await until(page, 'the focus', () => document.activeElement.id === 'details-close');
  assert.equal(await page.$eval('#details-kill', (node) => node.checkVisibility()), false);
  await page.keyboard.press('Escape');
  await connections(page, 0);
  const by = await server.event('control', (line) => line.by);
  assert.equal(by, 'observer');
});

test('all that match are killed, and the question has their number', async (t) => {
  const server = await steered(t);
  const kept = await echoing(t, server, 3);
  const gone = await echoing(t, server, 2, '127.0.0.9');
  const page = await opened(t, server);
  const total = (words) => says(page, 'rows-total', words);
  await total('5 live');
  await page.type('#peer', '127.0.0.9');
  await total('2 live');
  await page.click('#kill-matching');
  await asked(page, 'Kill 2 connections?');
  assert.equal(await text(page, 'confirm-do'), 'Kill 2 connections');
  await page.click('#confirm-do');
  await says(page, 'announce', '2 connections have ended.');
  assert.deepEqual(await texts(page, '#result p'), ['2 connections have ended.']);
  await until(page, 'the focus', () => document.activeElement.id === 'kill-matching');
  assert.ok(gone.every((client) => client.socket.closed || client.socket.readableEnded));
  // By a search: those that the table has.
  await page.$eval('#peer', (node) => {
    node.value = '';
  });
  await page.type('#search', kept[0].peer);
  await total('1 live');
  await page.click('#kill-matching');
  await asked(page, 'Kill 1 connection?');
  await page.click('#confirm-do');
  await says(page, 'announce', '1 connection has ended.');
  await kept[1].echo();
  await page.click('input[name=ended][value=true]');
  await page.click('#kill-matching');
  await says(page, 'result-text', 'These connections have ended: choose the live ones.');
  await connections(page, 2);
});

test('each service is paused and resumed', async (t) => {
  const path = folder(t);
  const config = join(path, 'tine.toml');
  writeFileSync(config, `observe = '127.0.0.1:0'\nobserve-token = '${join(path, 'token')}'\n`
    + "observe-control = true\n[services.a]\nlisten = '127.0.0.1:0'\n[services.b]\nlisten = '127.0.0.1:0'\n");
  const server = await Server.run(t, ['--config', config]);
  const page = await opened(t, server);
  const ready = async () => (await server.fetch('readyz')).status;
  for (const [order, phase, status, words] of [
    ['Pause', 'paused', 503, 'b is paused.'], ['Resume', 'serving', 200, 'b accepts clients again.']]) {
    await page.focus(`#services button[aria-label="${order} b"]`);
    await page.keyboard.press('Enter');
    await asked(page, `${order} b?`);
    await page.click('#confirm-do');
    await says(page, 'announce', words);
    assert.equal(await ready(), status);
    await until(page, phase, (wanted) =>
      document.querySelector('#services tr:nth-child(2) td').textContent === wanted, phase);
    assert.deepEqual(await texts(page, '#services tr:nth-child(1) td:nth-child(2)'), ['serving']);
    assert.match(await focused(page), / b$/);
  }
});

test('a client is banned for a time, and the ban is lifted', async (t) => {
  const server = await steered(t);
  const [client] = await echoing(t, server, 1);
  const page = await opened(t, server);
  await until(page, 'the row', () => document.querySelectorAll('#rows button').length === 1);
  await page.click('#rows tr:not(.spacer) button');
  await page.waitForSelector('#details[open] dd');
  await page.click('#details-ban');
  await asked(page, 'Ban 127.0.0.1?');
  await page.select('#ban-time', '600');
  await page.click('#ban-kill');
  const closed = once(client.socket, 'close');
  await page.click('#confirm-do');
  await says(page, 'details-result', '127.0.0.1 is banned, and 1 connection has ended.');
  await closed;
  await page.keyboard.press('Escape');
  await until(page, 'the ban', () => document.querySelectorAll('#bans tr').length === 1);
  const [block, , left] = await texts(page, '#bans tr > *');
  assert.equal(block, '127.0.0.1');
  assert.match(left, /^10\u00a0min/);
  await page.click('#bans button');
  await asked(page, 'Lift the ban of 127.0.0.1?');
  await page.click('#confirm-do');
  await says(page, 'announce', 'The ban of 127.0.0.1 is lifted.');
  await until(page, 'no ban', () => !document.getElementById('bans-nothing').hidden);
  assert.equal(await focused(page), 'steering-title');
  await echoing(t, server, 1);
});

test('what was not done is said in words, and can be tried again', async (t) => {
  const server = await steered(t);
  // The browser writes a line for each answer that refuses something.
  const page = await opened(t, server, { allowed: /status of 400/ });
  await page.click('#ban-new');
  await asked(page, 'Ban an address block?');
  await page.type('#ban-block', 'example.org');
  await page.click('#confirm-do');
  await until(page, 'the reason', () =>
    /^It was not done: .*not an IP address/.test(document.getElementById('confirm-problem').textContent));
  assert.equal(await isOpen(page, 'confirm'), true);
  await page.$eval('#ban-block', (node) => {
    node.value = '192.0.2.0/24';
  });
  await page.click('#confirm-do');
  await says(page, 'announce', '192.0.2.0/24 is banned.');
  await page.click('#result-close');
  assert.equal(await page.$eval('#result', (node) => node.checkVisibility()), false);
});

test('a question is not taken for the one before, whose close is told late', async (t) => {
  const server = await steered(t);
  const page = await opened(t, server);
  // The browser tells a close in a task of its own, and later under load.
  await page.evaluate(() => {
    const [dialog, ban] = ['confirm', 'ban-new'].map((id) => document.getElementById(id));
    const told = new Promise((resolve) => {
      dialog.addEventListener('close', resolve, { once: true });
    });
    ban.click();
    dialog.close();
    ban.click();
    return told;
  });
  await asked(page, 'Ban an address block?');
  await page.type('#ban-block', '192.0.2.7');
  await page.click('#confirm-do');
  await says(page, 'announce', '192.0.2.7 is banned.');
  assert.equal(await isOpen(page, 'confirm'), false);
});

for (const theme of ['dark', 'light']) {
  test(`questions and results hinder nobody, on a phone in the ${theme} theme`, async (t) => {
    const url = await startMock(t, ['--history', '60', '--control', '--services', 'git,mail']);
    const page = await open(t, url, { theme, size: PHONE });
    await until(page, 'the bans', () => document.querySelectorAll('#bans tr').length > 1);
    const expectNothing = async () => {
      await page.evaluate(AXE);
      const found = await page.evaluate(async () => {
        const { violations } = await globalThis.axe.run(document, { resultTypes: ['violations'] });
        return violations.map(({ id, nodes }) => [id, ...nodes.map((node) => String(node.target))]);
      });
      assert.deepEqual(found, []);
    };
    await expectNothing();
    await page.click('#ban-new');
    await asked(page, 'Ban an address block?');
    const box = await (await page.$('#confirm')).boundingBox();
    assert.ok(box.x >= 0 && box.x + box.width <= PHONE.width, JSON.stringify(box));
    await expectNothing();
    await page.keyboard.press('Escape');
    await page.click('#services button');
    await asked(page, 'Pause git?');
    await page.click('#confirm-do');
    await says(page, 'announce', 'git is paused.');
    await expectNothing();
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), PHONE.width);
  });
}

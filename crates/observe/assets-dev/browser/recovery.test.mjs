// The page says that the server or its observer is gone, and goes on by itself when it is back.

import assert from 'node:assert/strict';
import { connections, open, shown, until } from './support/page.mjs';
import { Relay } from './support/relay.mjs';
import { Server } from './support/server.mjs';
import test from './support/test.mjs';

// The browser writes a line for each request that fails.
const FAILED = /Failed to load resource|net::ERR_/;

const isLost = () => !document.getElementById('lost').hidden
  && document.getElementById('lost-text').textContent.includes('is lost');
const isBack = () => document.getElementById('lost').hidden;

/** Makes the page remember the samples that it keeps: their times, and those passed over. */
function rememberSamples(page) {
  return page.evaluate(async () => {
    const { History } = await import('/assets/history.js');
    const { add } = History.prototype;
    globalThis.kept = [];
    globalThis.repeated = [];
    History.prototype.add = function remember(sample) {
      const isNew = add.call(this, sample);
      globalThis[isNew ? 'kept' : 'repeated'].push(sample.time);
      return isNew;
    };
  });
}

/** Makes the page remember whether it has said that the connection is lost: for a moment, it may. */
function rememberLoss(page) {
  return page.evaluate(() => {
    const note = () => {
      globalThis.wasLost ||= !document.getElementById('lost').hidden;
    };
    new MutationObserver(note).observe(document.getElementById('lost'), { attributes: true });
  });
}

const kept = (page) => page.evaluate(() => globalThis.kept);

/** Waits until the page has kept this many samples more. */
async function more(page, number) {
  const before = (await kept(page)).length;
  await until(page, 'new samples', (count) => globalThis.kept.length >= count, before + number);
}

function expectRising(times) {
  times.forEach((time, i) => assert.ok(i === 0 || time > times[i - 1], `${times}`));
}

test('a server that is killed and started again on the same address', async (t) => {
  const first = await Server.start(t, ['--name', 'first']);
  const page = await open(t, first.url, { allowed: FAILED });
  await (await first.connect(t)).echo();
  await connections(page, 1);
  await first.process.kill();
  await until(page, 'that the connection is lost', isLost);
  assert.match(await page.$eval('#lost-next', (node) => node.textContent), /^Next attempt in \d+ s\.$/);
  const second = await Server.start(t, ['--name', 'second', '--observe', first.observer]);
  assert.equal(second.url, first.url);
  await until(page, 'that it is back', isBack);
  await connections(page, 0);
  await until(page, 'the name of the new one', () =>
    document.getElementById('server-name').textContent === 'second');
  await (await second.connect(t)).echo();
  await connections(page, 1);
});

test('an observer that is killed: the server starts another, and the page follows it', async (t) => {
  const server = await Server.start(t);
  const page = await open(t, server.url, { allowed: FAILED });
  await shown(page);
  await rememberSamples(page);
  await more(page, 2);
  await rememberLoss(page);
  const restarted = server.event('restart', (line) => line.role === 'observer');
  process.kill(await observerOf(server), 'SIGKILL');
  await restarted;
  await until(page, 'that the connection is lost', () => globalThis.wasLost);
  const client = await server.connect(t);
  await client.echo();
  await until(page, 'that it is back', isBack);
  await connections(page, 1);
  await more(page, 2);
  expectRising(await kept(page));
  await client.finish();
  await connections(page, 0);
});

async function observerOf(server) {
  const { services } = await server.get('api/v1/metrics');
  return services[0].processes.find((one) => one.role === 'observer').pid;
}

test('after a break, events go on without a gap or a repetition', async (t) => {
  const server = await Server.start(t);
  const relay = await Relay.start(t, server.observer);
  const page = await open(t, relay.url, { allowed: FAILED });
  await shown(page);
  await rememberSamples(page);
  await more(page, 1);
  const [first] = await kept(page);
  relay.cut();
  await until(page, 'that the connection is lost', isLost);
  // What happens in the break, in more than one sample.
  const missed = await samplesAfter(server, first, 3);
  const client = await server.connect(t);
  await client.echo();
  relay.mend();
  await until(page, 'that it is back', isBack);
  await connections(page, 1);
  await more(page, 2);
  const seen = await kept(page);
  expectRising(seen);
  const all = (await samplesAfter(server, first, missed.length)).filter((time) => time <= seen.at(-1));
  assert.deepEqual(seen.slice(1), all);
  assert.deepEqual(await page.evaluate(() => globalThis.repeated), []);
});

/** The times of the samples after one, once there are this many. */
async function samplesAfter(server, time, number) {
  const headers = { 'Last-Event-ID': String(Math.round(time * 1000)) };
  const stop = new AbortController();
  const { body } = await fetch(`${server.url}api/v1/events`, { headers, signal: stop.signal });
  const times = [];
  let text = '';
  for await (const piece of body.pipeThrough(new TextDecoderStream())) {
    text += piece;
    times.length = 0;
    for (const [, data] of text.matchAll(/^data: (.*)\n/gm)) {
      times.push(...[JSON.parse(data)].flat().map((sample) => sample.time));
    }
    if (times.length >= number) {
      break;
    }
  }
  stop.abort();
  return times;
}

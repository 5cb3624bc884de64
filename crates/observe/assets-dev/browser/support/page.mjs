// Pages of the dashboard, each with a storage of its own, and what is asked of them.

import assert from 'node:assert/strict';
import { enter, leave } from './chromium.mjs';
import { defer } from './cleanup.mjs';

export const DESKTOP = { width: 1440, height: 900 };
export const PHONE = { width: 390, height: 844 };
// Generous: other work may hold the machine up. What must be fast is measured.
const DEADLINE = 30000;

/**
 * Opens the dashboard, without movement unless it `moves`: to draw that takes most of a processor
 * here, where no graphics card does. The test fails if the console gets an error or a warning that `allowed` does
 * not match, or if the page asks another host.
 */
export async function open(t, url, options = {}) {
  const { size = DESKTOP, theme = 'dark', moves = false, allowed = /^$/ } = options;
  const browser = await enter();
  defer(t, leave);
  const context = await browser.createBrowserContext();
  defer(t, () => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(DEADLINE);
  const problems = watch(page, new URL(url).origin, allowed);
  defer(t, () => assert.deepEqual(problems, [], 'console and requests'));
  await page.setViewport(size);
  await page.emulateMediaFeatures([
    { name: 'prefers-color-scheme', value: theme },
    { name: 'prefers-reduced-motion', value: moves ? 'no-preference' : 'reduce' },
  ]);
  await page.goto(url, { waitUntil: 'domcontentloaded' });
  return page;
}

function watch(page, origin, allowed) {
  const problems = [];
  const add = (text) => allowed.test(text) || problems.push(text);
  page.on('console', (message) => {
    if (['error', 'warn', 'warning', 'assert'].includes(message.type())) {
      add(`console: ${message.text()}`);
    }
  });
  page.on('pageerror', (error) => add(`exception: ${error.stack ?? error}`));
  page.on('request', (request) => {
    const url = new URL(request.url());
    if (url.origin !== origin && url.protocol !== 'data:') {
      add(`request to ${url}`);
    }
  });
  return problems;
}

/**
 * Waits until a function of the page is true. It is asked now and then: to ask in each frame has the
 * browser draw each of them.
 */
export async function until(page, what, test, ...values) {
  try {
    await page.waitForFunction(test, { polling: 50 }, ...values);
  } catch (problem) {
    throw new Error(`not seen: ${what} (${problem.message})`, { cause: problem });
  }
}

/** Waits until `#connections` is this number. */
export function connections(page, number) {
  return until(page, `${number} connections`, (text) =>
    document.getElementById('connections').textContent === text, number.toLocaleString('en'));
}

/** Waits until the first sample is shown. */
export function shown(page) {
  return until(page, 'a sample', () => /^\d/.test(document.getElementById('connections').textContent));
}

/** The texts of the nodes that a selector names, at one moment: `$$eval` would ask twice. */
export function texts(page, selector) {
  return page.evaluate((wanted) =>
    [...document.querySelectorAll(wanted)].map((node) => node.textContent.trim()), selector);
}

/** The rows of the table that are in view, as arrays of their cells. */
export function rows(page) {
  return page.evaluate(() => {
    const box = document.getElementById('rows-box').getBoundingClientRect();
    const head = document.getElementById('rows-head').getBoundingClientRect();
    const isInView = (row) => {
      const { top, bottom } = row.getBoundingClientRect();
      return bottom > head.bottom + 1 && top < box.bottom - 1;
    };
    return [...document.querySelectorAll('#rows tr:not(.spacer)')].filter(isInView)
      .map((row) => [...row.cells].map((cell) => cell.textContent));
  });
}

/** What has the focus: its id, or its words. */
export function focused(page) {
  return page.evaluate(() => {
    const node = document.activeElement;
    return node.id || node.getAttribute('aria-label') || node.textContent.trim();
  });
}

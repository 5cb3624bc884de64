// Looks at the dashboard of mock.py in a headless Chromium: see README.md.

import { readFileSync, mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const require = createRequire(join(process.cwd(), 'package.json'));
const puppeteer = require('puppeteer-core');
const AXE = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const BASE = process.argv[2] ?? 'http://127.0.0.1:8099/';
const OUT = process.argv[3] ?? 'shots';
const WAIT = Number(process.env.WAIT ?? 5000);
const SIZES = [[1440, 900], [390, 844]];
const problems = [];

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function watch(page, name) {
  page.on('console', (message) => {
    if (['error', 'warn', 'warning'].includes(message.type())) {
      problems.push(`${name}: console: ${message.text()}`);
    }
  });
  page.on('pageerror', (error) => problems.push(`${name}: ${error.message}`));
  page.on('request', (request) => {
    if (!request.url().startsWith(new URL(BASE).origin) && !request.url().startsWith('data:')) {
      problems.push(`${name}: request to ${request.url()}`);
    }
  });
}

async function axe(page, name) {
  // Evaluated by the debugger, which the policy of the page does not hold up.
  await page.evaluate(AXE);
  const found = await page.evaluate(async () => {
    const { violations } = await globalThis.axe.run(document, { resultTypes: ['violations'] });
    return violations.map((one) => ({ id: one.id, impact: one.impact,
      nodes: one.nodes.slice(0, 4).map((node) => `${node.target} ${node.failureSummary}`) }));
  });
  for (const one of found) {
    problems.push(`${name}: axe ${one.impact}: ${one.id}\n    ${one.nodes.join('\n    ')}`);
  }
}

async function look(browser, theme, [width, height]) {
  const name = `${theme}-${width}`;
  const page = await browser.newPage();
  watch(page, name);
  await page.setViewport({ width, height });
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: theme }]);
  await page.goto(BASE, { waitUntil: 'domcontentloaded' });
  await sleep(WAIT);
  await page.screenshot({ path: join(OUT, `${name}.png`) });
  await page.screenshot({ path: join(OUT, `${name}-full.png`), fullPage: true });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  if (wide > width) {
    problems.push(`${name}: the page is ${wide} wide`);
  }
  const number = await page.$eval('#connections', (node) => node.textContent);
  if (!/^\d/.test(number)) {
    problems.push(`${name}: #connections is '${number}'`);
  }
  await axe(page, name);
  if (width > 1000) {
    await use(page, name);
  }
  await page.close();
}

/** Sorts, searches, scrolls, opens the details and zooms, as a user does. */
async function use(page, name) {
  await page.click('input[name=ended][value=true]');
  await page.click('#rows-head button[data-sort=age]');
  await sleep(800);
  const sorted = await page.$eval('[aria-sort=descending] button', (node) => node.dataset.sort);
  if (sorted !== 'age') {
    problems.push(`${name}: sorted by ${sorted}`);
  }
  await page.$eval('#rows-box', (box) => { box.scrollTop = box.scrollHeight / 2; });
  await sleep(1000);
  const rows = await page.$$eval('#rows tr:not(.spacer)', (list) => list.map((row) => row.textContent));
  if (rows.length < 10 || rows.some((text) => text.includes('…') && text.length < 3)) {
    problems.push(`${name}: ${rows.length} rows after scrolling: ${rows.slice(0, 3).join(' / ')}`);
  }
  await page.click('#rows tr:nth-child(12) button');
  await page.waitForSelector('#details[open] dd');
  await sleep(300);
  await axe(page, `${name} details`);
  await page.screenshot({ path: join(OUT, `${name}-details.png`) });
  await page.keyboard.press('Escape');
  const plot = await page.$('#plots .u-over');
  await plot.scrollIntoView();
  const box = await plot.boundingBox();
  await page.mouse.move(box.x + box.width * 0.5, box.y + 40);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.8, box.y + 40, { steps: 5 });
  await page.mouse.up();
  await sleep(400);
  if (await page.$eval('#zoom-reset', (node) => node.disabled)) {
    problems.push(`${name}: dragging does not zoom`);
  }
  await page.$$eval('.plot details', (list) => list.forEach((node) => { node.open = true; }));
  await sleep(2500);
  await page.screenshot({ path: join(OUT, `${name}-zoom.png`) });
  await axe(page, `${name} zoomed`);
  await page.focus('#zoom-reset');
  await page.keyboard.press('Enter');
  if (!(await page.$eval('#zoom-reset', (node) => node.disabled))) {
    problems.push(`${name}: the button does not reset the zoom`);
  }
}

mkdirSync(OUT, { recursive: true });
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu'],
});
try {
  for (const theme of ['dark', 'light']) {
    for (const size of SIZES) {
      await look(browser, theme, size);
    }
  }
} finally {
  await browser.close();
}
console.log(problems.length === 0 ? 'no problem found' : problems.join('\n'));
process.exitCode = problems.length === 0 ? 0 : 1;

// Starts one Chromium and runs `node --test` on the files of tests, or those that are named.

import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { launch } from './support/chromium.mjs';
import { bound } from './support/processes.mjs';

const HERE = dirname(fileURLToPath(import.meta.url));
// More than two at a time would make each other slow, and what is measured wrong.
const AT_A_TIME = 2;
// A test that hangs must not hang the run.
const DEADLINE = 5 * 60 * 1000;

function files() {
  const named = process.argv.slice(2);
  if (named.length > 0) {
    return named;
  }
  const found = readdirSync(HERE).filter((name) => name.endsWith('.test.mjs')).sort();
  return [join(HERE, '..', 'modules.test.mjs'), ...found.map((name) => join(HERE, name))];
}

const browser = await launch();
try {
  // The modules of the dashboard have names in .js and no package.json beside them.
  const flags = ['--experimental-default-type=module', '--test', `--test-concurrency=${AT_A_TIME}`,
    '--test-reporter=spec', '--test-reporter-destination=stdout'];
  const [command, words] = bound(process.execPath, [...flags, ...files()]);
  const env = { ...process.env, BROWSER_ENDPOINT: browser.wsEndpoint() };
  const tests = spawn(command, words, { stdio: ['ignore', 'inherit', 'inherit'], env });
  const deadline = setTimeout(() => {
    console.log(`The tests have not ended after ${DEADLINE / 1000} s.`);
    tests.kill('SIGTERM');
  }, DEADLINE);
  const code = await new Promise((resolve) => tests.once('exit', resolve));
  clearTimeout(deadline);
  process.exitCode = code ?? 1;
} finally {
  await browser.close();
}

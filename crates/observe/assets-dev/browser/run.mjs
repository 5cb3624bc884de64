// Starts one Chromium and runs `node --test` on the files of tests, or those that are named.

import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { launch } from './support/chromium.mjs';
import { bound } from './support/processes.mjs';

const HERE = dirname(fileURLToPath(import.meta.url));
// Tests wait for the next sample most of the time. More files would make what is measured wrong.
const AT_A_TIME = 3;
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
  const flags = ['--test', `--test-concurrency=${AT_A_TIME}`, '--test-reporter=spec',
    '--test-reporter-destination=stdout'];
  // The modules of the dashboard have names in .js and no package.json beside them. Later versions
  // of Node.js see that they are modules, and have no such option.
  if (process.allowedNodeEnvironmentFlags.has('--experimental-default-type')) {
    flags.push('--experimental-default-type=module');
  }
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

// Tests that end: one that waits for something that does not come fails by name, and so does a file
// whose process is kept alive by something that was left open.

import nodeTest, { after } from 'node:test';

// Several times what the longest test takes, on a machine that other work holds up.
const TEST_WITHIN = 60000;
// Pages, servers and clients are closed after each test.
const END_WITHIN = 20000;

/** A test, with a bound of time. */
export default function test(name, run) {
  return nodeTest(name, { timeout: TEST_WITHIN }, run);
}

after(() => {
  const timer = setTimeout(() => {
    const left = process.getActiveResourcesInfo().join(' ');
    console.log(`${process.argv[1]}: its tests have ended, but not its process: ${left}`);
    process.exit(1);
  }, END_WITHIN);
  // It fires only if something else keeps the process alive.
  timer.unref();
});

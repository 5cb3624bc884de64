// What axe-core finds on a page.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** Checks what a selector names. Minor findings count, too: there are none. */
export async function expectNothing(page, selector = 'html') {
  // Evaluated by the debugger, which the policy of the page does not hold up.
  await page.evaluate(AXE);
  const found = await page.evaluate(async (where) => {
    const { violations } = await globalThis.axe.run(where, { resultTypes: ['violations'] });
    return violations.map(({ id, impact, nodes }) =>
      [impact, id, ...nodes.slice(0, 4).map((node) => `${node.target} ${node.failureSummary}`)]);
  }, selector);
  assert.deepEqual(found, []);
}

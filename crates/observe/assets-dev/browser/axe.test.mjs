// axe-core finds nothing: in both themes and at both widths, in the details and zoomed, too.
// mock.py has all ends, refusals and crashes at once.

import { expectNothing } from './support/axe.mjs';
import { DESKTOP, open, PHONE, shown, until } from './support/page.mjs';
import { startMock } from './support/server.mjs';
import test from './support/test.mjs';

async function look(t, theme, size) {
  const page = await open(t, await startMock(t, ['--history', '900']), { theme, size });
  await shown(page);
  await until(page, 'all panels', () => document.querySelectorAll('#plots .u-over').length === 5
    && document.querySelectorAll('#crashes button').length > 0
    && document.querySelectorAll('#settings tr').length > 3);
  await expectNothing(page);
  await page.$$eval('.plot details', (list) => list.forEach((one) => {
    one.open = true;
  }));
  await page.click('#zoom [data-span="300"]');
  await expectNothing(page, '#plots');
  await page.click('input[name=ended][value=true]');
  await until(page, 'ended connections', () =>
    document.querySelector('#rows .end-mark:not(.is-live)'));
  await page.$eval('#rows button', (button) => button.click());
  await page.waitForSelector('#details[open] dd');
  await expectNothing(page);
}

for (const theme of ['dark', 'light']) {
  for (const size of [DESKTOP, PHONE]) {
    test(`in the ${theme} theme, ${size.width} wide`, (t) => look(t, theme, size));
  }
}

// The layers of a jail among the protections.

import assert from 'node:assert/strict';
import { connections, open, texts } from './support/page.mjs';
import { Server } from './support/server.mjs';
import test from './support/test.mjs';

/** The rows about the jail: their names without that of the jail, and their values. */
async function layers(page) {
  const [names, values] = [await texts(page, '#protections th'), await texts(page, '#protections td')];
  const rows = names.map((name, at) => [name, values[at]]).filter(([name]) => name.startsWith('Jail: '));
  return Object.fromEntries(rows.map(([name, value]) => [name.slice('Jail: '.length), value]));
}

test('each layer of a jail is a protection, and without a jail there is none', async (t) => {
  const jailed = await Server.start(t, ['--jail=light', '--user', 'nobody']);
  const page = await open(t, jailed.url);
  await connections(page, 0);
  const found = await layers(page);
  assert.deepEqual(Object.keys(found),
    ['no-new-privileges', 'capabilities', 'seccomp', 'landlock.fs', 'landlock.scope']);
  assert.match(found.seccomp, /^on: \d+ system calls$/);
  const free = await open(t, (await Server.start(t)).url);
  await connections(free, 0);
  assert.deepEqual(await layers(free), {});
});

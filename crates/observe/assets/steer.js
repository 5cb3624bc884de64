// What changes the server: buttons that kill, pause, resume, ban and unban, where the server lets
// its observer do so.

import { byId, el, setText } from './dom.js';
import { count, duration, plural } from './format.js';
import { get, steer } from './api.js';
import { ask, setUpConfirm, tell } from './confirm.js';
import { blockOf, fullId, hostOf, isLive } from './targets.js';

// The API takes as many ids at a time.
const MOST_IDS = 1000;

let isPossible = false;
let onChange = () => {};
let shownRow = null;

const ended = (number) => `${plural(number, 'connection has', 'connections have')} ended.`;
const title = () => byId('steering-title');

/** Rows of a table, each of which stays while what it is about does: a button keeps its focus. */
function renderRows(body, items, keyOf, make) {
  const rows = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  const wanted = items.map((item) => {
    const key = JSON.stringify(keyOf(item));
    const row = rows.get(key) ?? make();
    row.dataset.key = key;
    row.update(item);
    return row;
  });
  const hadFocus = body.contains(document.activeElement);
  [...body.rows].filter((row) => !wanted.includes(row)).forEach((row) => row.remove());
  wanted.forEach((row, i) => body.rows[i] !== row && body.insertBefore(row, body.rows[i] ?? null));
  if (hadFocus && !body.contains(document.activeElement)) {
    title().focus();
  }
}

function killOne(row) {
  const id = fullId(row);
  ask({
    title: `Kill connection ${id}?`,
    text: `It is served for ${row.peer ?? 'its client'}. Its process gets TERM, and KILL after 2 s.`,
    action: 'Kill it',
    fallback: byId('details-close'),
    run: async () => {
      await steer('POST', `connections/${encodeURIComponent(id).replaceAll('%3A', ':')}/kill`);
      return `Connection ${id} has ended.`;
    },
    after: () => {
      if (fullId(shownRow) === id) {
        byId('details-kill').hidden = true;
      }
      onChange();
    },
  });
}

/** Asks for a ban. `service` is null for all services. */
function ban(block, service, fallback) {
  byId('ban-block').value = block;
  byId('ban-time').value = '3600';
  byId('ban-kill').checked = false;
  ask({
    title: block ? `Ban ${block}?` : 'Ban an address block?',
    text: `Later clients are rejected${service ? ` by ${service}` : ''}. Write an address, or a block such as 192.0.2.0/24.`,
    action: 'Ban it',
    fields: 'ban',
    fallback,
    run: async () => {
      const wanted = byId('ban-block').value.trim();
      const seconds = Number(byId('ban-time').value);
      const kill = byId('ban-kill').checked;
      const reply = await steer('POST', 'bans', {
        block: wanted, kill, ...(seconds ? { for_ms: seconds * 1000 } : {}), ...(service ? { service } : {}),
      });
      return `${wanted} is banned${kill ? `, and ${ended(reply.count)}` : '.'}`;
    },
    after: onChange,
  });
}

function unban(one) {
  const service = one.service ? `&service=${encodeURIComponent(one.service)}` : '';
  ask({
    title: `Lift the ban of ${one.block}?`,
    text: `Its clients are served again${one.service ? ` by ${one.service}` : ''}.`,
    action: 'Lift it',
    fallback: title(),
    run: async () => {
      await steer('DELETE', `bans?block=${encodeURIComponent(one.block)}${service}`);
      return `The ban of ${one.block} is lifted.`;
    },
    after: onChange,
  });
}

function pauseOrResume(one) {
  const isPaused = one.phase === 'paused';
  const name = one.service ?? 'the server';
  const path = one.service ? `services/${encodeURIComponent(one.service)}/` : '';
  ask({
    title: isPaused ? `Resume ${name}?` : `Pause ${name}?`,
    text: isPaused ? 'Clients in the backlog are served, and new ones.'
      : 'New clients wait in the backlog until it is resumed. Connections go on.',
    action: isPaused ? 'Resume' : 'Pause',
    fallback: title(),
    run: async () => {
      await steer('POST', path + (isPaused ? 'resume' : 'pause'));
      return isPaused ? `${name} accepts clients again.` : `${name} is paused.`;
    },
    after: onChange,
  });
}

/** Asks whether to kill what the table shows, with the number of it. */
async function killMatching(query) {
  if (query.ended) {
    tell('These connections have ended: choose the live ones.');
    return;
  }
  const block = blockOf(query);
  const number = block ? 1 : MOST_IDS;
  let reply;
  try {
    reply = await get('connections', { ...query, limit: number });
  } catch (error) {
    tell(`The connections could not be counted: ${error.message}.`);
    return;
  }
  const { total } = reply;
  if (total === 0) {
    tell('No live connection matches.');
    return;
  }
  if (!block && total > MOST_IDS) {
    tell(`${count(total)} connections match. Search for fewer than ${count(MOST_IDS)}, or give an address block.`);
    return;
  }
  const words = plural(total, 'connection', 'connections');
  ask({
    title: `Kill ${words}?`,
    text: block ? `These are all of ${block.peer}${block.service ? ` at ${block.service}` : ''} now; `
      + 'those that begin until then end, too. Their processes get TERM, and KILL after 2 s.'
      : 'These are all that match now. Their processes get TERM, and KILL after 2 s.',
    action: `Kill ${words}`,
    fallback: byId('search'),
    run: async () => {
      const body = block ?? { ids: reply.connections.map(fullId) };
      return ended((await steer('POST', 'kill', body)).count);
    },
    after: onChange,
  });
}

function serviceRow() {
  const [name, phase] = [el('th', { scope: 'row' }), el('td')];
  const button = el('button', { type: 'button' });
  const row = el('tr', {}, name, phase, el('td', { class: 'action' }, button));
  let shown = null;
  button.addEventListener('click', () => pauseOrResume(shown));
  row.update = (one) => {
    shown = one;
    const isPaused = one.phase === 'paused';
    setText(name, one.service ?? 'The server');
    setText(phase, one.phase);
    setText(button, isPaused ? 'Resume' : 'Pause');
    button.setAttribute('aria-label', `${isPaused ? 'Resume' : 'Pause'} ${one.service ?? 'the server'}`);
    button.disabled = !['serving', 'paused'].includes(one.phase);
  };
  return row;
}

function banRow() {
  const [block, service, left] = [el('th', { scope: 'row', class: 'peer' }), el('td'), el('td')];
  const button = el('button', { type: 'button', text: 'Unban' });
  const row = el('tr', {}, block, service, left, el('td', { class: 'action' }, button));
  let shown = null;
  button.addEventListener('click', () => unban(shown));
  row.update = (one) => {
    shown = one;
    setText(block, one.block);
    setText(service, one.service ?? '–');
    const seconds = one.left_ms / 1000;
    // Seconds that pass are no news.
    const rounded = seconds < 90 ? seconds : Math.round(seconds / 60) * 60;
    setText(left, one.left_ms === null ? 'for ever' : duration(rounded).replace(/\u00a0min 0\u00a0s$/, '\u00a0min'));
    button.setAttribute('aria-label', `Unban ${one.block}${one.service ? ` at ${one.service}` : ''}`);
  };
  return row;
}

/** Shows what can be steered: the services, and the bans in force. */
export async function showSteering(server, statuses) {
  isPossible = server?.control === true;
  byId('steering').hidden = !isPossible;
  byId('kill-matching').hidden = !isPossible;
  if (!isPossible) {
    return;
  }
  renderRows(byId('services'), statuses, (one) => one.service, serviceRow);
  const names = statuses.map((one) => one.service);
  const bans = statuses.some((one) => one.bans > 0) ? (await get('bans')).bans : [];
  const shown = bans.filter((one) => names.includes(one.service));
  renderRows(byId('bans'), shown, (one) => [one.service, one.block], banRow);
  byId('bans-nothing').hidden = shown.length > 0;
}

/** The buttons in the details of a connection. */
export function showActions(row) {
  shownRow = row;
  setText(byId('details-result'), '');
  byId('details-actions').hidden = !isPossible;
  byId('details-kill').hidden = !isLive(row);
  byId('details-ban').hidden = hostOf(row.peer) === null;
}

/** `query` tells what the table shows; `change` is called after each change. */
export function setUpSteering({ query, service, change }) {
  onChange = change;
  setUpConfirm();
  byId('details-kill').addEventListener('click', () => killOne(shownRow));
  byId('details-ban').addEventListener('click', () =>
    ban(hostOf(shownRow.peer), shownRow.service ?? null, byId('details-close')));
  byId('kill-matching').addEventListener('click', () => killMatching(query()));
  byId('ban-new').addEventListener('click', () => ban('', service(), title()));
}

// The dialog with all that is known about one connection.

import { setUpDialog, showFields } from './dialog.js';
import { byId } from './dom.js';
import { bytes, duration, moment } from './format.js';
import { get } from './api.js';
import { showActions } from './steer.js';

const ms = (value) => duration(value / 1000);

/** The fields in this order; others follow as they are: later servers may tell more. */
const FIELDS = {
  service: ['Service', String],
  peer: ['Client', String],
  proxy: ['Proxy', String],
  pid: ['Process', String],
  state: ['State', String],
  outcome: ['Outcome', String],
  generation: ['Generation', String],
  accepted: ['Accepted', moment],
  started: ['Started', moment],
  ended: ['Ended', moment],
  age_ms: ['Age', ms],
  first_byte_ms: ['First byte after', ms],
  waited_ms: ['Waited in the queue', ms],
  limit: ['Delayed because of', String],
  bytes_in: ['Bytes in', bytes],
  bytes_out: ['Bytes out', bytes],
  bytes_source: ['Bytes counted by', String],
  tcp_state: ['TCP state', String],
  cpu_ms: ['Processor time', ms],
  peak_kib: ['Peak memory', (value) => bytes(value * 1024)],
};

function fill(row) {
  const others = Object.keys(row).filter((name) => !(name in FIELDS) && !['id', 'kind'].includes(name))
    .map((name) => [name, typeof row[name] === 'string' ? row[name] : JSON.stringify(row[name])]);
  byId('details-title').textContent = `Connection ${row.id}`;
  showFields('details-list', FIELDS, row, others);
  showActions(row);
}

/** Whether a row of the API is the connection of a row of an event, whose id has no service. */
function isSame(found, row) {
  const id = String(row.id).split(':').at(-1);
  return String(found.id).split(':').at(-1) === id && (found.service ?? null) === (row.service ?? null);
}

/** Opens the dialog. A row of an event has few fields: then the others are asked for. */
export async function openDetails(row) {
  const dialog = byId('details');
  fill(row);
  if (!dialog.open) {
    dialog.showModal();
  }
  if (row.accepted !== undefined) {
    return;
  }
  const title = byId('details-title').textContent;
  const ended = row.state === 'ended' || row.outcome !== undefined;
  for (const isEnded of ended ? [true] : [false, true]) {
    try {
      const query = { ended: isEnded, service: row.service, search: row.peer, limit: 100, sort: '-id' };
      const reply = await get('connections', query);
      const found = reply.connections.find((one) => isSame(one, row));
      if (found) {
        // Another connection may have been opened in the meantime.
        if (dialog.open && byId('details-title').textContent === title) {
          fill(found);
        }
        return;
      }
    } catch {
      return;
    }
  }
}

export function setUpDetails() {
  setUpDialog('details');
}

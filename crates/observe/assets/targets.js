// What steering is about, from rows of the API and of events. Needs no document.

/** The id of a connection, as the API takes it: a row of an event has the number alone. */
export function fullId(row) {
  const id = String(row.id);
  return row.service && !id.includes(':') ? `${row.service}:${id}` : id;
}

/** The address of a peer; null if it has none that can be banned. */
export function hostOf(peer) {
  const text = String(peer ?? '');
  const [, six] = /^\[([0-9a-f:.]+)(?:%[^\]]*)?\]:\d+$/i.exec(text) ?? [];
  const [, four] = /^(\d{1,3}(?:\.\d{1,3}){3}):\d+$/.exec(text) ?? [];
  return six ?? four ?? null;
}

/** Whether a connection can still be ended. */
export function isLive(row) {
  return row.outcome === undefined && row.state !== 'ended';
}

/** The whole of what a filter of the table selects, for `POST kill`; null if that needs ids. */
export function blockOf({ peer, search, service }) {
  if (!peer || search) {
    return null;
  }
  return service ? { peer, service } : { peer };
}

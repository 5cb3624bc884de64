// How a connection ended: a colour, a shape and a word for each family of outcomes. The shape and
// the word carry the meaning for those who do not see the colour.

/** Paths of the shapes, around the origin, in a box of 10 by 10. */
export const SHAPES = {
  success: 'M-4 0 L-1.2 3 L4.4 -3.2',
  client: 'M0 -4.6 L4.6 0 L0 4.6 L-4.6 0 Z',
  timeout: 'M-3.8 -4.2 H3.8 L-3.8 4.2 H3.8 Z',
  killed: 'M-3.8 -3.8 H3.8 V3.8 H-3.8 Z',
  exit: 'M0 -4.6 L4.6 3.8 H-4.6 Z',
  crash: 'M-3.8 -3.8 L3.8 3.8 M3.8 -3.8 L-3.8 3.8',
};

export const FAMILIES = [
  { name: 'success', label: 'Exit 0', meaning: 'the process exited with code 0' },
  { name: 'client', label: 'Client left', meaning: 'the client reset the connection, or was gone' },
  { name: 'timeout', label: 'Timeout', meaning: 'the server ended it after a timeout' },
  { name: 'killed', label: 'Killed', meaning: 'an operator ended it' },
  { name: 'exit', label: 'Other exit code', meaning: 'the process exited with another code' },
  { name: 'crash', label: 'Signal, panic, error', meaning: 'a signal, a panic or an error' },
];

const BY_WORD = {
  success: 'success',
  reset: 'client',
  client: 'client',
  gone: 'client',
  timeout: 'timeout',
  killed: 'killed',
  exit: 'exit',
  failure: 'exit',
  signal: 'crash',
  panic: 'crash',
  error: 'crash',
  crash: 'crash',
};

/** The family of an outcome: from its text, as the log has it, or else from its kind. */
export function family(outcome, kind) {
  if (outcome === 'exit 0') {
    return 'success';
  }
  const first = String(outcome ?? '').split(' ')[0];
  return BY_WORD[first] ?? familyOfKind(kind);
}

/** The family of a kind of the metrics, as `client_gone`. Kinds that are not known are `exit`. */
export function familyOfKind(kind) {
  const words = String(kind ?? '').toLowerCase().split(/[^a-z0]+/);
  if (words[0] === 'exit' && words[1] === '0') {
    return 'success';
  }
  return BY_WORD[words[0]] ?? 'exit';
}

/** Whether the outcome is a crash, and so belongs to a group of crashes. */
export function isCrash(outcome) {
  return /^(signal|panic|error)\b/.test(outcome ?? '');
}

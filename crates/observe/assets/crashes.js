// Crashes: the reports by cause, or, in a server without reports, connections by their outcome.

import { setUpDialog, showFields } from './dialog.js';
import { byId, el, renderIfChanged, setText } from './dom.js';
import { bytes, count, duration, moment, plural } from './format.js';
import { get } from './api.js';
import { isCrash } from './outcome.js';

const IDS = 5;
const GROUPS = 50;

/** What the report of a crash has, in this order. */
const FIELDS = {
  cause: ['Cause', String],
  time: ['Time', moment],
  service: ['Service', String],
  id: ['Connection', String],
  peer: ['Client', String],
  proxy: ['Proxy', String],
  pid: ['Process', String],
  program: ['Program', (words) => words.join(' ')],
  handler: ['Handler', String],
  panic: ['Panic', String],
  place: ['Place', String],
  address: ['Address', String],
  instruction: ['Instruction', String],
  kernel: ['Kernel', String],
  duration_ms: ['Duration', (value) => duration(value / 1000)],
  cpu_ms: ['Processor time', (value) => duration(value / 1000)],
  peak_memory_bytes: ['Peak memory', bytes],
  bytes_in: ['Bytes in', bytes],
  bytes_out: ['Bytes out', bytes],
};

function row(head, number, ...last) {
  return el('tr', {}, el('th', { scope: 'row', text: head }), el('td', { class: 'number', text: count(number) }),
    el('td', { class: 'ids' }, ...last));
}

function button(text, label, onclick) {
  return el('button', { type: 'button', class: 'link', text, 'aria-label': label, onclick });
}

function nothing(text) {
  return [el('tr', {}, el('td', { class: 'nothing', colspan: 3, text }))];
}

/** Groups of reports: the newest first. `null` if no service keeps any. */
export async function askForReports(statuses) {
  return statuses.some((one) => one.crash_reports) ? (await get('crashes')).groups ?? [] : null;
}

function showGroups(groups) {
  const shown = groups.slice(0, GROUPS);
  renderIfChanged(byId('crashes'), shown, (data) => (data.length === 0
    ? nothing('There is no crash report.')
    : data.map((group) => row(group.cause, group.count,
      ...group.reports.slice(0, IDS).map((name, at) => button(at === 0 ? moment(group.last) : `−${at}`,
        `Report ${at + 1} of ${group.cause}`, () => openReport(name, group.service)))))));
  setText(byId('crashes-last'), 'Reports, the newest first');
  setText(byId('crashes-of'), `${plural(groups.reduce((sum, group) => sum + group.count, 0), 'report',
    'reports')} in ${plural(groups.length, 'group', 'groups')} of one cause each.`);
}

/** Connections of the same outcome are a group, those that end with the same signal for example. */
function showOutcomes(connections, onChoose) {
  const groups = new Map();
  for (const one of connections) {
    if (isCrash(one.outcome)) {
      const group = groups.get(one.outcome) ?? { outcome: one.outcome, rows: [] };
      group.rows.push(one);
      groups.set(one.outcome, group);
    }
  }
  const sorted = [...groups.values()].sort((a, b) => b.rows.length - a.rows.length).slice(0, GROUPS);
  const key = sorted.map((one) => [one.outcome, one.rows.length, one.rows[0].id]);
  renderIfChanged(byId('crashes'), key, () => (sorted.length === 0
    ? nothing('None of the connections looked at has crashed.')
    // Rows come with the newest first.
    : sorted.map((group) => row(group.outcome, group.rows.length, ...group.rows.slice(0, IDS).map((one) =>
      button(one.id, `Connection ${one.id}`, () => onChoose(one)))))));
  setText(byId('crashes-last'), 'Last ids');
  setText(byId('crashes-of'), `Among the last ${plural(connections.length, 'connection that has ended',
    'connections that have ended')}. With --crash-dir, the server keeps a report of each crash.`);
}

function showSignals(metrics) {
  const signals = {};
  for (const one of metrics) {
    for (const [name, value] of Object.entries(one.ended_by_signal ?? {})) {
      signals[name] = (signals[name] ?? 0) + value;
    }
  }
  const list = Object.entries(signals).sort((a, b) => b[1] - a[1]);
  const words = list.map(([name, value]) => `${name} ${count(value)}`).join(', ');
  setText(byId('signals'), words ? `Ended by signals since the start: ${words}.`
    : 'No connection was ended by a signal since the start.');
}

/** The panel: `reports` are groups, or null. */
export function showCrashes({ reports, connections, metrics, onChoose }) {
  if (reports === null) {
    showOutcomes(connections, onChoose);
  } else {
    showGroups(reports);
  }
  showSignals(metrics);
}

async function openReport(name, service) {
  const dialog = byId('report');
  let report;
  try {
    report = await get(`crashes/${encodeURIComponent(service ? `${service}:${name}` : name)}`);
  } catch (problem) {
    report = { cause: `It cannot be shown: ${problem.message}` };
  }
  byId('report-title').textContent = `Crash of connection ${report.id ?? ''}`;
  showFields('report-list', FIELDS, report);
  const lines = report.stderr ?? [];
  byId('report-lines').hidden = lines.length === 0;
  byId('report-stderr').textContent = lines.join('\n');
  if (!dialog.open) {
    dialog.showModal();
  }
}

export function setUpReports() {
  setUpDialog('report');
}

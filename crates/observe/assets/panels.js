// Key numbers, refusals, protections, configuration and processes.

import { byId, el, renderIfChanged, setText, svg } from './dom.js';
import { bytes, count, duration, moment, percent, plural, rate } from './format.js';
import { FAMILIES, SHAPES, familyOfKind } from './outcome.js';

function row(head, ...cells) {
  return el('tr', {}, el('th', { scope: 'row', text: head }),
    ...cells.map((cell) => (cell instanceof Node ? cell : el('td', { text: cell }))));
}

function number(text) {
  return el('td', { class: 'number', text });
}

function nothing(columns, text) {
  return [el('tr', {}, el('td', { class: 'nothing', colspan: columns, text }))];
}

/** The numbers at the top, from the latest sample. */
export function showNumbers({ total, point }, maximum) {
  setText(byId('connections'), count(total.connections));
  setText(byId('connections-of'), maximum ? `of ${count(maximum)} slots` : '');
  const meter = byId('connections-meter');
  meter.hidden = !maximum;
  if (maximum) {
    meter.max = maximum;
    meter.high = maximum * 0.9;
    meter.value = total.connections;
  }
  setText(byId('now-accepted'), rate(point.accepted));
  setText(byId('now-ended'), rate(point.ended));
  setText(byId('now-rejected'), rate(point.rejectedAll));
  setText(byId('now-in'), `${bytes(point.bytesIn)}/s`);
  setText(byId('now-out'), `${bytes(point.bytesOut)}/s`);
  setText(byId('now-waiting'), count(total.waiting));
  setText(byId('now-median'), duration(point.durationMedian ?? NaN));
}

/** How connections ended: the legend of the picture, with counts. */
export function showEnds(kinds) {
  const counts = Object.fromEntries(FAMILIES.map(({ name }) => [name, 0]));
  for (const [kind, value] of Object.entries(kinds)) {
    counts[familyOfKind(kind)] += value;
  }
  const list = byId('ends');
  if (list.childElementCount === 0) {
    list.append(...FAMILIES.map(({ name, label, meaning }) => el('li', { title: meaning },
      svg('svg', { class: `end-mark end-${name}`, viewBox: '-7 -7 14 14', 'aria-hidden': 'true' },
        svg('path', { d: SHAPES[name] })),
      el('span', { text: label }), el('span', { class: 'end-count', 'data-end': name }))));
  }
  for (const node of list.querySelectorAll('[data-end]')) {
    setText(node, count(counts[node.dataset.end]));
  }
}

/** Refusals by reason: bars whose lengths are also written. */
export function showRefusals(total) {
  const data = { rejected: total.rejected, delayed: total.delayed };
  renderIfChanged(byId('refusals'), data, ({ rejected, delayed }) => {
    // A server tells all reasons there are.
    const reasons = [...new Set([...Object.keys(rejected), ...Object.keys(delayed)])]
      .filter((reason) => rejected[reason] > 0 || delayed[reason] > 0);
    reasons.sort((a, b) => (rejected[b] ?? 0) - (rejected[a] ?? 0) || (a < b ? -1 : 1));
    const all = Object.values(rejected).reduce((sum, value) => sum + value, 0);
    const most = Math.max(1, ...Object.values(rejected));
    if (reasons.length === 0) {
      return nothing(4, 'No client was rejected or delayed.');
    }
    return reasons.map((reason) => {
      const value = rejected[reason] ?? 0;
      const bar = el('div', { class: 'bar', 'aria-hidden': 'true' });
      bar.style.width = `${((100 * value) / most).toFixed(1)}%`;
      return row(reason, number(count(value)), number(percent(value, all)),
        number(count(delayed[reason] ?? 0)), el('td', { class: 'bar-cell', 'aria-hidden': 'true' }, bar));
    });
  });
}

const PROTECTIONS = /^(limits$|max-|rate-|per-source|penal|idle-timeout|first-byte|drain-timeout)/;

function named(status, text) {
  return status.service === null || status.service === undefined ? text : `${status.service}: ${text}`;
}

/** What protects the server: limits, bans and penalties. */
export function showProtections(statuses, metrics) {
  const rows = statuses.flatMap((one) => {
    const more = metrics.find((other) => other.service === one.service) ?? {};
    const used = `${count(one.connections)} of ${count(one.max_connections)}, `
      + `${percent(one.connections, one.max_connections)}; the most so far: ${count(one.peak)}`;
    const list = [
      ['Slots in use', used],
      ['Limits', one.limits === 'report' ? 'report: clients are served and counted' : one.limits ?? '–'],
      ['Bans in force', count(one.bans ?? more.bans)],
      ['Delay queue', `${plural(one.waiting ?? 0, 'client', 'clients')} now, `
        + `${count(one.delayed)} since the start`],
      ['Forks that failed', count(more.fork_failures)],
      ['Log lines dropped', count(more.log_lines_dropped)],
    ];
    for (const layer of one.jail?.layers ?? []) {
      list.push([`Jail: ${layer.layer}`, layer.detail ? `${layer.state}: ${layer.detail}` : layer.state]);
    }
    if (one.reported > 0) {
      list.push(['Served, but over a limit', count(one.reported)]);
    }
    for (const setting of one.settings ?? []) {
      const isSame = ['limits', 'max-connections'].includes(setting.name);
      if (PROTECTIONS.test(setting.name) && !isSame && setting.value !== 'none') {
        list.push([setting.name, setting.value]);
      }
    }
    return list.map(([name, value]) => [named(one, name), value]);
  });
  renderIfChanged(byId('protections'), rows, (data) => data.map(([name, value]) => row(name, value)));
}

/** Configuration as the server has understood it. */
export function showSettings(statuses) {
  const settings = statuses.flatMap((one) => (one.settings ?? []).map((setting) => ({
    name: named(one, setting.name), value: setting.value, start: setting.at_start,
    fallback: setting.default, takes: setting.takes,
  })));
  renderIfChanged(byId('settings'), settings, (rows) => {
    if (rows.length === 0) {
      return nothing(4, 'The server has told no settings.');
    }
    return rows.map((one) => {
      const value = el('td', {}, el('code', { text: one.value }));
      if (one.value !== one.start) {
        value.append(' ', el('span', { class: 'tag', text: 'changed' }));
      }
      const start = el('td', {}, el('code', { text: one.start }));
      const fallback = el('td', {}, el('code', { text: one.fallback }));
      const line = row(one.name, value, start, fallback);
      line.title = `takes ${one.takes ?? ''}`;
      return line;
    });
  });
}

/** The server in words: name, version, phase, addresses, uptime. */
export function showServer(reply, statuses) {
  const { server } = reply;
  setText(byId('server-name'), server?.name ?? 'server');
  const phases = [...new Set(statuses.map((one) => one.phase))];
  const phase = phases.length === 1 ? phases[0] : phases.join(', ');
  const badge = byId('phase');
  setText(badge, phase || 'unknown');
  badge.dataset.phase = phases.every((one) => one === 'serving') ? 'serving' : 'other';
  const uptime = Math.max(0, ...statuses.map((one) => one.uptime_ms ?? 0)) / 1000;
  const addresses = [...new Set(statuses.flatMap((one) => one.addresses ?? []))];
  const shown = addresses.slice(0, 4).join(', ') + (addresses.length > 4 ? ', …' : '');
  setText(byId('server-words'), `tine ${server?.version ?? ''}, on ${shown || '–'}, up for ${
    duration(Math.floor(uptime / 60) * 60 || uptime).replace(/\u00a0min 0\u00a0s$/, '\u00a0min')}`);
  byId('server-words').title = statuses[0]?.started ? `since ${moment(statuses[0].started)}` : '';
}

export function showProcesses(metrics) {
  const rows = metrics.flatMap((one) => (one.processes ?? []).map((process) => [
    named(one, process.role), process.pid, process.restarts, process.cpu_ms, process.rss_kib]));
  renderIfChanged(byId('processes'), rows, (data) => (data.length === 0
    ? nothing(5, 'No processes are known.')
    : data.map(([role, pid, restarts, cpu, rss]) => row(role, number(String(pid ?? '–')),
      number(count(restarts)), number(duration((cpu ?? NaN) / 1000)), number(bytes((rss ?? NaN) * 1024))))));
  const listeners = metrics.flatMap((one) => (one.listeners ?? []).map((listener) => [
    named(one, listener.address), listener.queued, listener.backlog, listener.overflows]));
  renderIfChanged(byId('listeners'), listeners, (data) => (data.length === 0
    ? nothing(4, 'No listeners are known.')
    : data.map(([address, ...numbers]) => row(address, ...numbers.map((one) => number(count(one)))))));
}

// Starts the dashboard: follows the events, asks for the rest now and then, and shows both.

import { byId, el, renderIfChanged, setText } from './dom.js';
import { get, setToken, takeToken, whenUnauthorized } from './api.js';
import { Follower } from './stream.js';
import { History } from './history.js';
import { Fork } from './fork.js';
import { Plots } from './plots.js';
import { ConnectionTable } from './table.js';
import { openDetails, setUpDetails } from './details.js';
import { askForReports, setUpReports, showCrashes } from './crashes.js';
import { setUpSteering, showSteering } from './steer.js';
import { showEnds, showNumbers, showProcesses, showProtections, showRefusals, showServer,
  showSettings } from './panels.js';

const STATUS_EVERY = 5000;
const CRASHES_EVERY = 15000;
const RANKS_EVERY = 10000;
const PLOTS_EVERY = 2000;
// The sample has the newest 200 connections; ages of older ones are asked for at so many ranks.
const SAMPLED = 200;
const RANKS = 10;

const state = {
  service: null, status: null, metrics: [], ended: [], reports: null, maximum: null, paused: false, sample: null,
  plotted: 0,
};
const history = new History();
takeToken();
setUpDetails();
setUpReports();
const fork = new Fork(openDetails);
const plots = new Plots(history);
const table = new ConnectionTable(openDetails);

setUpSteering({
  query: () => table.query, service: () => state.service,
  change: () => {
    pollStatus();
    table.refresh();
  },
});

const ofService = (rows) =>
  (rows ?? []).filter((one) => state.service === null || one.service === state.service);

function show() {
  const { total, point } = history.latest();
  if (!total || !state.sample || state.paused || document.hidden) {
    return;
  }
  showNumbers({ total, point }, state.maximum);
  showEnds(total.kinds);
  showRefusals(total);
  fork.update({ total, live: ofService(state.sample.live), ended: ofService(state.sample.ended) });
  const now = performance.now();
  if (now - state.plotted > PLOTS_EVERY - 100) {
    state.plotted = now;
    plots.update();
  }
}

const follower = new Follower({
  open: () => {
    document.body.classList.remove('is-lost');
    if (!byId('lost').hidden) {
      byId('lost').hidden = true;
      setText(byId('announce'), 'The connection to the observer is back.');
      poll();
    }
  },
  lost: (seconds) => {
    document.body.classList.add('is-lost');
    byId('lost').hidden = false;
    // The same text at each attempt: it is a live region.
    setText(byId('lost-text'), 'The connection to the observer is lost. What is shown is old.');
    setText(byId('lost-next'), `Next attempt in ${Math.max(1, Math.round(seconds))} s.`);
  },
  event: (name, data) => {
    if (name === 'history' && Array.isArray(data)) {
      data.forEach((sample) => history.add(sample));
      state.plotted = 0;
    } else if (name === 'sample') {
      history.add(data);
      state.sample = data;
      show();
    }
  },
});

function showStatus() {
  if (!state.status || state.paused) {
    return;
  }
  const all = state.status.services ?? [];
  renderIfChanged(byId('service'), all.map((one) => one.service), (names) => [
    el('option', { value: '', text: 'All services' }),
    ...names.filter((name) => name !== null).map((name) => el('option', { value: name, text: name })),
  ]);
  byId('service-field').hidden = all.length < 2;
  const statuses = ofService(all);
  const metrics = ofService(state.metrics);
  state.maximum = statuses.reduce((sum, one) => sum + (one.max_connections ?? 0), 0) || null;
  showServer(state.status, statuses);
  showProtections(statuses, metrics);
  showSettings(statuses);
  showProcesses(metrics);
  const reports = state.reports && ofService(state.reports);
  showCrashes({ reports, connections: ofService(state.ended), metrics, onChoose: openDetails });
}

/** Runs a task now and then, but not while nobody looks. A failure is that of the stream, too. */
function every(milliseconds, task) {
  let running = false;
  const run = async () => {
    if (running || document.hidden) {
      return;
    }
    running = true;
    try {
      await task();
    } catch {
      // The follower says when the observer cannot be reached.
    } finally {
      running = false;
    }
  };
  setInterval(run, milliseconds);
  run();
  return run;
}

const pollStatus = every(STATUS_EVERY, async () => {
  const [status, metrics] = await Promise.allSettled([get('status'), get('metrics')]);
  state.status = status.value ?? state.status;
  state.metrics = metrics.value?.services ?? state.metrics;
  history.learnBounds(state.metrics);
  showStatus();
  if (state.status && !state.paused) {
    await showSteering(state.status.server, ofService(state.status.services));
  }
});

const pollEnded = every(CRASHES_EVERY, async () => {
  const reply = await get('connections', { ended: true, sort: '-id', limit: 1000, service: state.service });
  // At first, the status may not be here yet.
  const { services = [] } = state.status ?? await get('status');
  const reports = await askForReports(services);
  // Both at once: shown without its reports, a server would seem to keep none.
  state.ended = reply.connections ?? [];
  state.reports = reports;
  showStatus();
});

/** Ages of connections that are not in the sample: a few of them, at even ranks. */
const pollRanks = every(RANKS_EVERY, async () => {
  const number = history.latest().total?.connections ?? 0;
  if (number <= SAMPLED || state.paused) {
    fork.ranks = [];
    return;
  }
  const ranks = [];
  for (let i = 1; i <= RANKS; i += 1) {
    const rank = Math.round(SAMPLED + ((number - 1 - SAMPLED) * i) / RANKS);
    const query = { ended: false, sort: 'age', limit: 1, offset: rank, service: state.service };
    const [row] = (await get('connections', query)).connections ?? [];
    if (row) {
      ranks.push([rank, row.age_ms / 1000]);
    }
  }
  fork.ranks = ranks;
});

function poll() {
  pollStatus();
  pollEnded();
  pollRanks();
  table.refresh();
}

whenUnauthorized(() => {
  const dialog = byId('token-dialog');
  setText(byId('token-problem'), state.tokenGiven ? 'The observer did not accept this token.' : '');
  if (!dialog.open) {
    dialog.showModal();
  }
});

byId('token-form').addEventListener('submit', (event) => {
  event.preventDefault();
  state.tokenGiven = true;
  setToken(byId('token').value.trim());
  byId('token').value = '';
  byId('token-dialog').close();
  follower.retry();
  poll();
});

byId('service').addEventListener('change', () => {
  state.service = byId('service').value || null;
  history.choose(state.service);
  fork.ranks = [];
  state.plotted = 0;
  table.change({ service: state.service });
  show();
  showStatus();
  poll();
});

byId('pause').addEventListener('click', () => {
  state.paused = !state.paused;
  table.paused = state.paused;
  byId('pause').setAttribute('aria-pressed', String(state.paused));
  document.body.classList.toggle('is-paused', state.paused);
  if (!state.paused) {
    show();
    poll();
  }
});

for (const radio of document.querySelectorAll('input[name=group]')) {
  radio.addEventListener('change', () => fork.setMode(radio.value));
}

document.addEventListener('visibilitychange', () => {
  if (!document.hidden) {
    state.plotted = 0;
    show();
    poll();
  }
});
window.addEventListener('online', () => follower.retry());
byId('retry').addEventListener('click', () => follower.retry());
setTimeout(pollRanks, 2500);
follower.run();

// The samples of the last hour, and what plots show of them.

const KEEP = 3600;
// Rates and quantiles are of what happened in this many seconds before a sample: what happens in
// one second is too little for quantiles, and looks like noise in a plot of an hour.
const WINDOW = 10;

function sum(map) {
  return Object.values(map ?? {}).reduce((all, value) => all + value, 0);
}

function addMaps(target, map) {
  for (const [key, value] of Object.entries(map ?? {})) {
    target[key] = (target[key] ?? 0) + value;
  }
  return target;
}

/** Adds a histogram, or its counts alone: then the bounds are those of the metrics. */
function addHistogram(target, histogram, bounds) {
  const added = Array.isArray(histogram) ? histogram : histogram?.counts;
  if (!added) {
    return target;
  }
  if (!target) {
    return { bounds: histogram.bounds ?? bounds, counts: [...added] };
  }
  target.counts = target.counts.map((value, index) => value + (added[index] ?? 0));
  return target;
}

/** The sum of all services of a sample, or of the one that is chosen. */
export function combine(sample, service, bounds = {}) {
  const total = {
    time: sample.time,
    connections: 0,
    accepted: 0,
    kinds: {},
    rejected: {},
    delayed: {},
    waiting: 0,
    bytesIn: 0,
    bytesOut: 0,
    spares: 0,
    duration: null,
    start: null,
    phases: [],
    processes: [],
  };
  for (const one of sample.services ?? []) {
    if (service !== null && one.service !== service) {
      continue;
    }
    total.connections += one.connections ?? 0;
    total.accepted += one.accepted ?? 0;
    total.waiting += one.waiting ?? 0;
    total.bytesIn += one.bytes_in ?? 0;
    total.bytesOut += one.bytes_out ?? 0;
    total.spares += one.spares ?? 0;
    addMaps(total.kinds, one.ended_by_kind);
    addMaps(total.rejected, one.rejected_by_reason);
    addMaps(total.delayed, one.delayed_by_reason);
    total.duration = addHistogram(total.duration, one.duration, bounds.duration);
    total.start = addHistogram(total.start, one.start, bounds.start);
    total.phases.push(one.phase);
    total.processes.push(...(one.processes ?? []));
  }
  total.ended = sum(total.kinds);
  return total;
}

/** A quantile of what was added between two histograms: log-linear within a bucket. */
export function quantile(before, after, share) {
  if (!before || !after?.bounds) {
    return null;
  }
  const counts = after.counts.map((value, i) => Math.max(0, value - (before.counts[i] ?? 0)));
  const all = counts.reduce((total, value) => total + value, 0);
  if (all === 0) {
    return null;
  }
  let left = share * all;
  for (let i = 0; i < counts.length; i += 1) {
    if (counts[i] > 0 && left <= counts[i]) {
      const last = after.bounds.length - 1;
      const high = after.bounds[Math.min(i, last)];
      const low = i > last ? high : (after.bounds[i - 1] ?? high / 2);
      return low * (high / low || 1) ** (left / counts[i]);
    }
    left -= counts[i];
  }
  return after.bounds.at(-1);
}

function point(total, previous) {
  // A counter that goes back, or a long gap: the server was started again, or the stream was lost.
  const seconds = previous ? total.time - previous.time : 0;
  const whole = previous && seconds > 0 && seconds < 2 * WINDOW && total.accepted >= previous.accepted;
  const old = whole ? previous : null;
  const perSecond = (now, then) => (whole ? Math.max(0, now - then) / seconds : null);
  const rejected = {};
  for (const [reason, value] of Object.entries(total.rejected)) {
    rejected[reason] = perSecond(value, previous?.rejected[reason] ?? 0);
  }
  return {
    time: total.time,
    connections: total.connections,
    accepted: perSecond(total.accepted, previous?.accepted),
    ended: perSecond(total.ended, previous?.ended),
    rejected,
    rejectedAll: perSecond(sum(total.rejected), sum(previous?.rejected)),
    bytesIn: perSecond(total.bytesIn, previous?.bytesIn),
    bytesOut: perSecond(total.bytesOut, previous?.bytesOut),
    durationMedian: quantile(old?.duration, total.duration, 0.5),
    durationHigh: quantile(old?.duration, total.duration, 0.99),
    startMedian: quantile(old?.start, total.start, 0.5),
    startHigh: quantile(old?.start, total.start, 0.99),
  };
}

export class History {
  constructor() {
    this.samples = [];
    this.service = null;
    this.bounds = {};
    this.rebuild();
  }

  rebuild() {
    this.points = [];
    this.totals = [];
    for (const sample of this.samples) {
      this.extend(sample);
    }
  }

  /** Takes the bounds of histograms from the metrics, for samples that have only counts. */
  learnBounds(metrics) {
    const known = metrics.find((one) => one.duration?.bounds);
    if (known && !this.bounds.duration) {
      this.bounds = { duration: known.duration.bounds, start: known.start?.bounds };
      this.rebuild();
    }
  }

  choose(service) {
    this.service = service;
    this.rebuild();
  }

  extend(sample) {
    const total = combine(sample, this.service, this.bounds);
    const old = this.totals.find((one) => one.time >= total.time - WINDOW - 0.5);
    this.points.push(point(total, old));
    this.totals.push(total);
    // Only the window is needed again.
    if (this.totals.length > WINDOW + 5) {
      this.totals.shift();
    }
  }

  /** Adds a sample without its connections; older or repeated ones are passed over. */
  add(sample) {
    const last = this.samples.at(-1);
    if (!Number.isFinite(sample?.time) || (last && sample.time <= last.time)) {
      return false;
    }
    // Connections and processes are only of now: an hour of them would be large.
    const services = (sample.services ?? []).map(({ processes, ...rest }) => rest);
    this.samples.push({ time: sample.time, services });
    this.extend(sample);
    if (this.samples.length > KEEP) {
      this.samples.splice(0, this.samples.length - KEEP);
      this.points.splice(0, this.points.length - KEEP);
    }
    return true;
  }

  latest() {
    return { total: this.totals.at(-1) ?? null, point: this.points.at(-1) ?? null };
  }

  /** The reasons for which most clients were rejected in the last hour, and before. */
  reasons(most) {
    const all = Object.entries(this.totals.at(-1)?.rejected ?? {}).filter(([, number]) => number > 0);
    all.sort((a, b) => b[1] - a[1]);
    return all.slice(0, most).map(([reason]) => reason).sort();
  }
}

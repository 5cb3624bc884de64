// The plots of the last hour, with a zoom that all of them share, and tables of the same numbers.

import { byId, el, setText } from './dom.js';
import { count, duration, rate } from './format.js';

const HEIGHT = 168;

const NUMBER = { axis: (value) => count(value), text: count };
const RATE = { axis: (value) => (value >= 10 || value === 0 ? count(value) : value.toFixed(1)), text: rate };
// Times go from microseconds to hours: their axis is logarithmic.
const TIME = { axis: axisTime, text: duration, log: true };

/** The plots. Each series takes one field of a point of the history. */
const PLOTS = [
  {
    id: 'connections', title: 'Connections', unit: NUMBER, fill: true,
    series: [{ label: 'Connections', colour: '--line-1', of: (p) => p.connections }],
  },
  {
    id: 'flow', title: 'Accepted and ended, per second', unit: RATE,
    series: [
      { label: 'Accepted', colour: '--line-1', of: (p) => p.accepted },
      { label: 'Ended', colour: '--line-2', dash: [5, 3], of: (p) => p.ended },
    ],
  },
  { id: 'rejected', title: 'Rejected by reason, per second', unit: RATE, series: [] },
  {
    id: 'duration', title: 'Duration of connections that ended', unit: TIME,
    series: [
      { label: 'Median', colour: '--line-1', of: (p) => p.durationMedian },
      { label: '99th percentile', colour: '--line-3', dash: [5, 3], of: (p) => p.durationHigh },
    ],
  },
  {
    id: 'start', title: 'Time to start a connection', unit: TIME,
    series: [
      { label: 'Median', colour: '--line-1', of: (p) => p.startMedian },
      { label: '99th percentile', colour: '--line-3', dash: [5, 3], of: (p) => p.startHigh },
    ],
  },
];
const DASHES = [[], [6, 3], [2, 3], [9, 3, 2, 3], [4, 4], [1, 2]];
const MOST_REASONS = 6;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export class Plots {
  constructor(history) {
    this.history = history;
    this.zoom = null;
    this.span = null;
    this.plots = PLOTS.map((plan) => this.section(plan));
    byId('zoom-reset').addEventListener('click', () => this.reset());
    for (const button of byId('zoom').querySelectorAll('button[data-span]')) {
      button.addEventListener('click', () => this.show(Number(button.dataset.span)));
    }
    document.documentElement.addEventListener('themechange', () => this.rebuild());
    new ResizeObserver(() => this.resize()).observe(byId('plots'));
    this.sayZoom();
  }

  section(plan) {
    const id = `plot-${plan.id}`;
    const legend = el('ul', { class: 'legend' });
    const canvas = el('div', { class: 'plot-canvas', 'aria-hidden': 'true' });
    const body = el('tbody');
    const head = el('tr', {}, ...['Series', 'Last', 'Least', 'Mean', 'Most'].map((text, i) =>
      el('th', { scope: 'col', class: i > 0 ? 'number' : null, text })));
    const table = el('table', {}, el('caption', { class: 'sr', text: `${plan.title}, in the time shown` }),
      el('thead', {}, head), body);
    const details = el('details', {}, el('summary', { text: 'Numbers' },
      el('span', { class: 'sr', text: `: ${plan.title}` })), table);
    const section = el('div', { class: 'plot', role: 'group', 'aria-labelledby': id },
      el('h3', { id, text: plan.title }), legend, canvas, details);
    details.addEventListener('toggle', () => this.table(this.plots.find((one) => one.body === body)));
    byId('plots').append(section);
    return { ...plan, legend, canvas, body, details, chart: null, key: null };
  }

  seriesOf(plot) {
    if (plot.id !== 'rejected') {
      return plot.series;
    }
    const list = this.history.reasons(MOST_REASONS).map((reason, i) => ({
      label: reason, colour: `--line-${1 + (i % 6)}`, dash: DASHES[i], of: (p) => p.rejected[reason] ?? 0,
    }));
    return list.length > 0 ? list : [{ label: 'All', colour: '--line-1', of: (p) => p.rejectedAll }];
  }

  /** Draws what has come since. Seldom enough for a plot of an hour. */
  update() {
    const points = this.history.points;
    if (points.length === 0) {
      return;
    }
    const times = points.map((one) => one.time);
    for (const plot of this.plots) {
      const series = this.seriesOf(plot);
      const key = series.map((one) => one.label).join('\n');
      if (!plot.chart || plot.key !== key) {
        this.build(plot, series);
        plot.key = key;
      }
      plot.data = [times, ...series.map((one) => points.map((p) => one.of(p) ?? null))];
      plot.chart.setData(plot.data, false);
      this.table(plot);
      this.values(plot, times.length - 1);
    }
    this.scale();
  }

  range() {
    const times = this.history.points;
    const last = times.at(-1)?.time ?? Date.now() / 1000;
    if (this.zoom) {
      return this.zoom;
    }
    const first = times[0]?.time ?? last - 60;
    return { min: this.span ? last - this.span : Math.min(first, last - 60), max: last };
  }

  scale() {
    const range = this.range();
    this.ours = true;
    for (const plot of this.plots) {
      plot.chart?.setScale('x', range);
    }
    this.ours = false;
  }

  build(plot, series) {
    plot.chart?.destroy();
    plot.shown = series;
    const axis = {
      stroke: colour('--muted'), font: '12px system-ui, sans-serif',
      grid: { stroke: colour('--grid'), width: 1 }, ticks: { show: false },
    };
    plot.chart = new window.uPlot({
      width: Math.max(240, plot.canvas.clientWidth), height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, sync: { key: 'hour' }, drag: { x: true, y: false, setScale: true } },
      scales: { y: scaleOf(plot.unit) },
      axes: [
        { ...axis, size: 30, space: 70, incrs: [1, 5, 10, 30, 60, 120, 300, 600, 900, 1800],
          values: (_, splits) => splits.map((time) => clock(time, this.range())) },
        { ...axis, size: 62, space: 30,
          ...(plot.unit.log ? { splits: decades, filter: (_, splits) => splits } : {}),
          values: (_, splits) => splits.map((one) => (one === null ? '' : plot.unit.axis(one))) },
      ],
      series: [{}, ...series.map((one) => ({
        label: one.label, stroke: colour(one.colour), width: 1.6, dash: one.dash,
        points: { show: false }, spanGaps: false,
        fill: plot.fill ? colour('--line-1-fill') : undefined,
      }))],
      hooks: {
        setSelect: [(chart) => this.select(chart)],
        setCursor: [(chart) => this.values(plot, chart.cursor.idx ?? null)],
      },
    }, [[], ...series.map(() => [])], plot.canvas);
    plot.chart.over.addEventListener('dblclick', () => this.reset());
    plot.values = series.map((one, i) => {
      const value = el('span', { class: 'legend-value' });
      const key = el('span', { class: 'legend-key', 'aria-hidden': 'true' });
      key.style.borderTopColor = colour(one.colour);
      key.style.borderTopStyle = one.dash?.length ? 'dashed' : 'solid';
      return { value, item: el('li', {}, key, el('span', { text: one.label }), value), index: i + 1 };
    });
    plot.legend.replaceChildren(...plot.values.map((one) => one.item));
  }

  values(plot, index) {
    const at = index ?? (plot.data?.[0].length ?? 0) - 1;
    for (const one of plot.values ?? []) {
      const value = plot.data?.[one.index]?.[at];
      setText(one.value, value === null || value === undefined ? '–' : plot.unit.text(value));
    }
  }

  select(chart) {
    if (chart.select.width < 4) {
      return;
    }
    const min = chart.posToVal(chart.select.left, 'x');
    const max = chart.posToVal(chart.select.left + chart.select.width, 'x');
    chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.zoom = { min, max: Math.max(max, min + 5) };
    // After uPlot's own zoom, which would be that of this plot alone.
    queueMicrotask(() => {
      this.scale();
      this.sayZoom();
    });
  }

  show(span) {
    this.zoom = null;
    this.span = span >= 3600 ? null : span;
    this.scale();
    this.sayZoom();
  }

  reset() {
    this.show(3600);
  }

  sayZoom() {
    const isWhole = !this.zoom && !this.span;
    byId('zoom-reset').disabled = isWhole;
    const { min, max } = this.range();
    const text = this.zoom ? `${clock(min, this.zoom, true)} to ${clock(max, this.zoom, true)}` : '';
    setText(byId('zoom-text'), text);
    for (const button of byId('zoom').querySelectorAll('button[data-span]')) {
      const isThis = !this.zoom && Number(button.dataset.span) === (this.span ?? 3600);
      button.setAttribute('aria-pressed', String(isThis));
    }
    for (const plot of this.plots) {
      this.table(plot);
    }
  }

  /** The numbers of a plot, for those who do not see it. */
  table(plot) {
    if (!plot?.details.open || !plot.data) {
      return;
    }
    const { min, max } = this.range();
    const rows = plot.shown.map((one, i) => {
      const values = plot.data[i + 1].filter((value, at) =>
        value !== null && plot.data[0][at] >= min && plot.data[0][at] <= max);
      const sum = values.reduce((all, value) => all + value, 0);
      const least = values.reduce((a, b) => Math.min(a, b), Infinity);
      const most = values.reduce((a, b) => Math.max(a, b), -Infinity);
      const cells = [values.at(-1), least, values.length ? sum / values.length : NaN, most];
      return el('tr', {}, el('th', { scope: 'row', text: one.label }), ...cells.map((value) =>
        el('td', { class: 'number', text: Number.isFinite(value) ? plot.unit.text(value) : '–' })));
    });
    plot.body.replaceChildren(...rows);
  }

  rebuild() {
    for (const plot of this.plots) {
      plot.key = null;
    }
    this.update();
  }

  resize() {
    for (const plot of this.plots) {
      const width = Math.max(240, plot.canvas.clientWidth);
      if (plot.chart && plot.chart.width !== width) {
        plot.chart.setSize({ width, height: HEIGHT });
      }
    }
  }
}

function scaleOf(unit) {
  if (!unit.log) {
    return { range: (_, __, most) => [0, most > 0 ? most * 1.12 : 1] };
  }
  const decade = (value, round) => 10 ** round(Math.log10(value));
  return {
    distr: 3,
    range: (_, least, most) => (least > 0
      ? [decade(least, Math.floor), decade(most * 1.01, Math.ceil)]
      : [0.001, 1]),
  };
}

/** Lines at powers of ten only: those between them are a thicket. */
function decades(_, __, min, max) {
  const first = Math.ceil(Math.log10(min) - 1e-6);
  const number = Math.max(1, Math.floor(Math.log10(max) - first + 1.000001));
  const step = number > 7 ? 2 : 1;
  return Array.from({ length: Math.ceil(number / step) }, (___, i) => 10 ** (first + i * step));
}

/** A power of ten of seconds. */
function axisTime(value) {
  return value >= 1 ? `${count(value)}\u00a0s` : duration(value).replace(/\.0/, '');
}

/** Local time of day; with seconds where the range is short. */
function clock(time, range, exact = false) {
  const options = { hour: '2-digit', minute: '2-digit', hour12: false };
  if (exact || range.max - range.min < 400) {
    options.second = '2-digit';
  }
  return new Date(time * 1000).toLocaleTimeString('en-GB', options);
}

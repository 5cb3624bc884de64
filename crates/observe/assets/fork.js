// The picture of the fork: supervisor, forkers, and connections as its tines.

import { byId, setText, svg } from './dom.js';
import { count, duration, plural } from './format.js';
import { band, frame, horizonFor, laneY, middle, neckY, ticks, xOf } from './geometry.js';
import { Bundles } from './bundles.js';
import { Tines } from './tines.js';

// More connections than this are drawn in groups, until there are clearly fewer again.
const MOST_TINES = 60;
const FEW_TINES = 50;
const MOST_FORKERS = 12;

export class Fork {
  constructor(onChoose) {
    this.root = byId('fork');
    this.frameLayer = svg('g', { class: 'fork-frame' });
    const tines = svg('g', { class: 'tines' });
    const bundles = svg('g', { class: 'bundles' });
    this.handle = svg('g', { class: 'fork-handle' });
    this.root.append(this.gradient(), this.frameLayer, bundles, tines, this.handle);
    this.tines = new Tines(tines, onChoose);
    this.bundles = new Bundles(bundles);
    this.grouped = false;
    this.mode = 'age';
    this.ranks = [];
    this.last = null;
    this.described = 0;
    new ResizeObserver(() => this.resize()).observe(this.root);
    this.resize();
  }

  /** From the metal of the handle to the colour of what is served. */
  gradient() {
    this.fade = svg('linearGradient', { id: 'fade', gradientUnits: 'userSpaceOnUse', y1: 0, y2: 0 },
      svg('stop', { offset: 0, class: 'fade-from' }), svg('stop', { offset: 1, class: 'fade-to' }));
    return svg('defs', {}, this.fade);
  }

  resize() {
    const width = Math.max(300, Math.round(this.root.clientWidth || 900));
    if (this.place?.width === width) {
      return;
    }
    this.place = frame(width);
    this.root.setAttribute('viewBox', `0 0 ${width} ${this.place.height}`);
    this.root.style.height = `${this.place.height}px`;
    this.fade.setAttribute('x1', this.place.neck);
    this.fade.setAttribute('x2', this.place.root);
    this.horizon = null;
    this.handleKey = null;
    this.bundles.clear();
    if (this.last) {
      this.draw(this.last, []);
    }
  }

  setMode(mode) {
    this.mode = mode;
    this.bundles.clear();
    if (this.last) {
      this.draw(this.last, []);
    }
  }

  /** `view`: total of `combine`, live and ended connections of the chosen service. */
  update(view) {
    this.last = view;
    this.draw(view, view.ended);
  }

  draw(view, ended) {
    const { total, live } = view;
    const limit = this.grouped ? FEW_TINES : MOST_TINES;
    const grouped = total.connections > limit;
    if (grouped !== this.grouped) {
      this.grouped = grouped;
      this.tines.clear();
      this.bundles.clear();
    }
    const oldest = Math.max(
      ...live.map((row) => row.age_ms / 1000),
      ...(grouped && this.mode === 'age' ? this.ranks.map(([, age]) => age) : []),
      1,
    );
    this.setHorizon(horizonFor(oldest));
    this.drawHandle(total);
    const now = performance.now();
    if (grouped) {
      const groups = this.bundles.groups(this.mode, live, this.ranks, total.connections);
      this.bundles.update(this.place, groups, ended, this.horizon, now);
      this.describe(total, groups);
    } else {
      this.tines.update(this.place, live, ended, this.horizon, now);
      this.describe(total, []);
    }
    byId('grouping').hidden = !grouped;
    const isPart = grouped && this.mode === 'network' && live.length < total.connections;
    setText(byId('grouping-note'), isPart ? `of the ${count(live.length)} newest` : '');
  }

  setHorizon(horizon) {
    if (this.horizon === horizon) {
      return;
    }
    this.horizon = horizon;
    const bottom = this.place.height - band.bottom;
    const nodes = ticks(horizon).map(({ seconds, text }) => {
      const x = xOf(this.place, seconds, horizon);
      return svg('g', { class: 'tick' },
        svg('line', { x1: x, x2: x, y1: band.top - 8, y2: bottom + 6 }),
        svg('text', { x, y: bottom + 24, 'text-anchor': 'middle', text }));
    });
    const spaced = this.place.narrow ? nodes.filter((_, index) => index % 2 === 0) : nodes;
    spaced.push(svg('text', {
      class: 'axis-name', x: this.place.root - 8, y: bottom + 24, 'text-anchor': 'end', text: 'age',
    }));
    this.frameLayer.replaceChildren(...spaced);
  }

  drawHandle(total) {
    const forkers = total.processes.filter((one) => /^forker\b/.test(one.role ?? ''));
    const shown = forkers.slice(0, this.place.narrow ? MOST_FORKERS / 2 : MOST_FORKERS);
    this.handle.classList.toggle('has-many', shown.length > 6);
    const phase = total.phases.find((one) => one !== 'serving') ?? total.phases[0] ?? '';
    const key = JSON.stringify([shown.map((one) => [one.pid, one.restarts]), total.spares, phase, total.phases.length]);
    if (key === this.handleKey) {
      return;
    }
    this.handleKey = key;
    const place = this.place;
    const y = middle(place);
    const gaps = Math.max(1, shown.length - 1);
    const reach = Math.min(place.narrow ? 120 : 230, (place.narrow ? 26 : 42) * gaps);
    const isLabelled = !place.narrow && reach / gaps > 26;
    const heights = shown.map((_, i) =>
      shown.length === 1 ? y : y - reach / 2 + (i * reach) / (shown.length - 1));
    const shoulder = svg('line', {
      class: 'neck', x1: place.neck, x2: place.neck,
      y1: neckY(place, laneY(place, 0, 12)), y2: neckY(place, laneY(place, 11, 12)),
    });
    // All arms end on the neck, however many there are.
    const share = Math.min(0.62, 38 / (reach / 2));
    const arms = heights.map((height) =>
      svg('path', { class: 'arm', d: this.arm(height, y, y + (height - y) * share) }));
    const nodes = shown.map((one, i) => this.forker(one, heights[i], isLabelled));
    this.handle.replaceChildren(...arms, shoulder, ...nodes, this.supervisor(y, phase, reach, total.phases.length),
      ...this.spares(total.spares, y + reach / 2));
  }

  arm(height, y, end) {
    const { supervisor, forkers, neck } = this.place;
    const bend = (forkers - supervisor) * 0.5;
    return `M${supervisor} ${y} C${supervisor + bend} ${y} ${forkers - bend} ${height} `
      + `${forkers} ${height} C${forkers + (neck - forkers) * 0.6} ${height} `
      + `${neck - (neck - forkers) * 0.4} ${end} ${neck} ${end}`;
  }

  forker(one, y, isLabelled) {
    const x = this.place.forkers;
    const node = svg('g', { class: one.restarts > 0 ? 'node forker was-restarted' : 'node forker' },
      svg('circle', { cx: x, cy: y, r: this.place.narrow ? 4.5 : 6 }),
      svg('title', { text: `${one.role}, process ${one.pid}, restarts: ${one.restarts ?? 0}` }));
    if (isLabelled) {
      const restarts = one.restarts > 0 ? `  ↻ ${one.restarts}` : '';
      node.append(svg('text', { x, y: y - 12, 'text-anchor': 'middle', text: one.role + restarts }));
    }
    return node;
  }

  /** Each service has a supervisor; those of several are drawn as one. */
  supervisor(y, phase, reach, number) {
    const x = this.place.supervisor;
    const [width, height] = this.place.narrow ? [18, 54] : [26, 84];
    const node = svg('g', { class: `node supervisor phase-${/^[a-z]+$/.test(phase) ? phase : 'other'}` },
      svg('rect', { x: x - width / 2, y: y - height / 2, width, height, rx: width / 2 }));
    const text = number > 1 ? plural(number, 'supervisor', 'supervisors') : 'supervisor';
    const left = this.place.narrow ? 11 : x;
    // On a narrow picture the arms are where the text would be.
    const below = y + (this.place.narrow ? Math.max(reach, height) : height) / 2 + 20;
    const anchor = this.place.narrow ? 'start' : 'middle';
    node.append(
      svg('text', { x: left, y: below, 'text-anchor': anchor, text }),
      svg('text', { class: 'phase', x: left, y: below + 17, 'text-anchor': anchor, text: phase }));
    return node;
  }

  spares(number, lowest) {
    if (!number) {
      return [];
    }
    const { forkers, narrow } = this.place;
    const top = lowest + (narrow ? 64 : 50);
    const dots = Array.from({ length: Math.min(number, 8) }, (_, i) =>
      svg('circle', { class: 'spare', cx: forkers + (i % 4) * 11, cy: top + Math.floor(i / 4) * 11, r: 3.2 }));
    const text = narrow ? `+${count(number)}` : plural(number, 'spare', 'spares');
    const label = svg('text', { class: 'spare-label', x: forkers - 12, y: top + 4, 'text-anchor': 'end', text });
    return [...dots, label];
  }

  /** The text alternative. It changes seldom: a screen reader may be reading it. */
  describe(total, groups) {
    const now = performance.now();
    if (this.described && now - this.described < 10000) {
      return;
    }
    this.described = now;
    const forkers = total.processes.filter((one) => /^forker\b/.test(one.role ?? '')).length;
    const oldest = this.horizon ? `The axis of ages ends at ${duration(this.horizon)}.` : '';
    const parts = groups.map((group) => `${count(group.number)} ${group.label}`).join(', ');
    const supervisors = total.phases.length > 1
      ? plural(total.phases.length, 'supervisor', 'supervisors') : 'A supervisor';
    setText(byId('fork-text'), `${supervisors} with ${plural(forkers, 'forker', 'forkers')} and `
      + `${plural(total.connections, 'connection', 'connections')}`
      + `${parts ? `, in groups: ${parts}` : ''}. ${oldest} The table below lists all connections.`);
  }
}

// Connections drawn one by one: each is a tine that grows with its age.
//
// The document changes once for each sample. Transitions and animations of CSS do the rest, so that
// the page does not run code for each frame, and `prefers-reduced-motion` is a matter of CSS.

import { svg } from './dom.js';
import { duration } from './format.js';
import { curve, lanesFor, lanesFromMiddle, laneY, reach } from './geometry.js';
import { FAMILIES, SHAPES, family } from './outcome.js';

// An ended tine is shown for this long, in milliseconds; as long as its animation in the CSS.
const FAREWELL = 4500;
const LABELLED_LANES = 32;
// Connections that came and went between two samples: at most this many of a sample are drawn.
const MOST_BRIEF = 10;
// In pixels: less is not drawn at once, and less is not moved smoothly.
const LEAST_CHANGE = 0.4;
const SMOOTH_CHANGE = 4;

export function keyOf(row) {
  return `${row.service ?? ''}:${row.id}`;
}

export class Tines {
  constructor(layer, onChoose) {
    this.layer = layer;
    this.onChoose = onChoose;
    this.tines = new Map();
    this.lanes = 12;
    this.clear();
  }

  clear() {
    this.layer.replaceChildren();
    this.tines.clear();
    this.used = new Set();
  }

  /** Draws a sample. `now` is the clock of the page, in milliseconds. */
  update(place, live, ended, horizon, now) {
    this.place = place;
    this.horizon = horizon;
    this.end(ended, now);
    const alive = new Set(live.map(keyOf));
    for (const [key, tine] of this.tines) {
      const isOver = tine.endedAt !== null && now - tine.endedAt > FAREWELL;
      if (isOver || (tine.endedAt === null && !alive.has(key))) {
        this.remove(key, tine);
      }
    }
    this.relayout(live.length);
    for (const row of live) {
      const tine = this.tines.get(keyOf(row)) ?? this.add(row);
      if (tine && tine.endedAt === null) {
        tine.group.classList.toggle('is-ending', row.state === 'ending');
        this.stretch(tine, row.age_ms / 1000 + 1);
      }
    }
  }

  end(ended, now) {
    let brief = 0;
    for (const row of ended) {
      let tine = this.tines.get(keyOf(row));
      if (!tine && brief < MOST_BRIEF) {
        brief += 1;
        tine = this.add(row);
      }
      if (tine && tine.endedAt === null) {
        this.finish(tine, row, now);
      }
    }
  }

  /** More connections than lanes, or far fewer: all of them move to new lanes. */
  relayout(number) {
    const wanted = lanesFor(number + 2);
    const isWrong = number > this.lanes - 1 || (number < this.lanes * 0.55 && wanted < this.lanes);
    if (!isWrong && this.drawn === this.place) {
      return;
    }
    this.drawn = this.place;
    this.layer.classList.toggle('has-labels', !this.place.narrow && (isWrong ? wanted : this.lanes) <= LABELLED_LANES);
    this.layer.classList.toggle('has-outcomes', !this.place.narrow);
    if (isWrong) {
      this.lanes = wanted;
      this.spread();
    }
    for (const tine of this.tines.values()) {
      this.move(tine, tine.lane);
      this.stretch(tine, tine.age);
    }
  }

  /** New lanes around the middle, in the order of the old ones. */
  spread() {
    const sorted = [...this.tines].sort(([, a], [, b]) => a.lane - b.lane);
    for (const [key, tine] of sorted.splice(this.lanes)) {
      this.remove(key, tine);
    }
    const first = Math.floor((this.lanes - sorted.length) / 2);
    sorted.forEach(([, tine], index) => {
      tine.lane = first + index;
    });
    this.used = new Set(sorted.map(([, tine]) => tine.lane));
  }

  freeLane() {
    return lanesFromMiddle(this.lanes).find((lane) => !this.used.has(lane));
  }

  add(row) {
    const lane = this.freeLane();
    if (lane === undefined) {
      return null;
    }
    this.used.add(lane);
    const path = svg('path', { class: 'tine-curve', pathLength: 1 });
    const line = svg('rect', { class: 'tine-line', x: -0.5, y: -1, height: 2 });
    const tip = svg('path', { class: 'tine-tip', d: 'M0 0 h0.01' });
    const label = svg('text', { class: 'tine-label', x: 12, y: 4 });
    const head = svg('g', { class: 'tine-head' }, tip, label);
    const hit = svg('rect', { class: 'tine-hit', y: -6, height: 12 });
    const straight = svg('g', { class: 'tine-straight' }, line, head, hit);
    const group = svg('g', { class: 'tine is-new' }, path, straight);
    const tine = { group, path, line, tip, label, head, hit, straight, lane, row, endedAt: null };
    tine.label.textContent = `${row.id}  ${row.peer}`;
    group.addEventListener('click', () => this.onChoose(tine.row));
    this.move(tine, lane);
    this.stretch(tine, 0);
    this.layer.append(group);
    // The length of before must be computed once, or there is no transition to the next.
    void group.getBoundingClientRect();
    this.tines.set(keyOf(row), tine);
    return tine;
  }

  move(tine, lane) {
    const y = laneY(this.place, lane, this.lanes);
    tine.lane = lane;
    tine.path.setAttribute('d', curve(this.place, y));
    tine.straight.style.transform = `translate(${this.place.root}px, ${y.toFixed(1)}px)`;
  }

  stretch(tine, age) {
    const length = (this.place.end - this.place.root) * reach(age, this.horizon);
    tine.age = age;
    const change = Math.abs(length - (tine.length ?? 0));
    if (change < LEAST_CHANGE) {
      return;
    }
    tine.length = length;
    // Old tines hardly grow: a picture that moves without a pause would cost the processor much.
    tine.group.classList.toggle('is-slow', change < SMOOTH_CHANGE);
    tine.line.style.width = `${length.toFixed(1)}px`;
    tine.hit.style.width = `${length.toFixed(1)}px`;
    tine.head.style.transform = `translateX(${length.toFixed(1)}px)`;
  }

  finish(tine, row, now) {
    const name = family(row.outcome, row.kind);
    tine.endedAt = now;
    tine.row = { ...tine.row, ...row, state: 'ended' };
    tine.tip.setAttribute('d', SHAPES[name]);
    tine.group.classList.add('is-ended', `end-${name}`);
    const word = FAMILIES.find((one) => one.name === name).label;
    const outcome = String(row.outcome ?? word);
    const brief = outcome.length > 26 ? `${outcome.slice(0, 25)}…` : outcome;
    tine.label.textContent = `${brief}  ${duration(row.age_ms / 1000)}`;
    this.stretch(tine, row.age_ms / 1000);
  }

  remove(key, tine) {
    tine.group.remove();
    this.used.delete(tine.lane);
    this.tines.delete(key);
  }
}

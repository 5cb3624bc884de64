// Connections drawn in groups: each group is a strand of hairs, as long as the ages in it.

import { svg } from './dom.js';
import { count } from './format.js';
import { band, curve, xOf } from './geometry.js';
import { SHAPES, family } from './outcome.js';
import { agePoints, byAge, byNetwork, networkOf } from './groups.js';

// Marks of ended connections: at most this many of a sample, each for this long in milliseconds.
const MOST_SPARKS = 24;
const SPARK = 2600;
const LEAST_STEP = 2.5;

function thin(ages, most) {
  if (ages.length <= most) {
    return ages;
  }
  return Array.from({ length: most }, (_, i) => ages[Math.floor(((i + 0.5) * ages.length) / most)]);
}

/** The group that an ended connection was in. */
function groupOf(groups, row) {
  const age = row.age_ms / 1000;
  const network = networkOf(String(row.peer ?? ''));
  return groups.find((one) =>
    (one.until === undefined ? one.key === network : age >= one.from && age < one.until));
}

export class Bundles {
  constructor(layer) {
    this.layer = layer;
    this.clear();
  }

  clear() {
    this.hairs = svg('g');
    this.marks = svg('g');
    this.labels = svg('g');
    this.layer.replaceChildren(this.hairs, this.marks, this.labels);
    this.strands = new Map();
    this.sparks = [];
  }

  /** The groups of a sample. `ranks` are ages of connections older than those of the sample. */
  groups(mode, live, ranks, total) {
    return mode === 'network' ? byNetwork(live) : byAge(agePoints(live, ranks, total));
  }

  update(place, groups, ended, horizon, now) {
    const weights = groups.map((group) => 1.4 + Math.log2(group.number + 1));
    const all = weights.reduce((sum, weight) => sum + weight, 0);
    const usable = place.height - band.top - band.bottom;
    const kept = new Set();
    let y = band.top;
    groups.forEach((group, index) => {
      const height = Math.min(110, (usable * weights[index]) / all);
      const offset = (usable / groups.length > 110 ? (usable - groups.length * 110) / 2 : 0);
      this.strand(place, group, y + offset, height, horizon);
      kept.add(group.key);
      y += height;
    });
    for (const [key, strand] of this.strands) {
      if (!kept.has(key)) {
        strand.node.remove();
        strand.label.remove();
        this.strands.delete(key);
      }
    }
    // Labels are above the marks.
    this.spark(place, groups, ended, horizon, now);
  }

  strand(place, group, top, height, horizon) {
    let strand = this.strands.get(group.key);
    if (!strand) {
      const hairs = svg('path', { class: 'hairs' });
      const tips = svg('path', { class: 'hair-tips' });
      const number = svg('tspan', { class: 'strand-number' });
      const words = svg('tspan', { dx: place.narrow ? 4 : 8 });
      const label = svg('text', { class: 'strand-label' }, number, words);
      strand = { node: svg('g', { class: 'strand' }, hairs, tips), hairs, tips, number, words, label };
      this.hairs.append(strand.node);
      this.labels.append(label);
      this.strands.set(group.key, strand);
    }
    const gap = Math.min(9, height * 0.16);
    // No more hairs than can be told from each other.
    const most = Math.max(3, Math.floor((height - 2 * gap) / LEAST_STEP));
    const ages = thin(group.ages, most);
    const step = (height - 2 * gap) / Math.max(1, ages.length);
    let lines = '';
    let tips = '';
    let furthest = place.root;
    ages.forEach((age, hair) => {
      const y = top + gap + (hair + 0.5) * step;
      const x = xOf(place, age, horizon);
      furthest = Math.max(furthest, x);
      lines += `${curve(place, y)} H${x.toFixed(1)} `;
      tips += `M${x.toFixed(1)} ${y.toFixed(1)}h0.01 `;
    });
    strand.hairs.setAttribute('d', lines);
    strand.tips.setAttribute('d', tips);
    strand.top = top;
    strand.height = height;
    this.label(strand, place, group, furthest, top + height / 2);
  }

  label(strand, place, group, furthest, y) {
    strand.number.textContent = count(group.number);
    strand.words.textContent = group.label;
    // On a narrow picture labels are over the hairs, at the right edge.
    const x = place.narrow ? place.width - 6 : furthest + 14;
    strand.label.setAttribute('x', x.toFixed(1));
    strand.label.setAttribute('y', (y + 4).toFixed(1));
    strand.label.setAttribute('text-anchor', place.narrow ? 'end' : 'start');
  }

  /** A mark for each connection that has ended, where its age is on the axis. */
  spark(place, groups, ended, horizon, now) {
    while (this.sparks.length > 0 && now - this.sparks[0].at > SPARK) {
      this.sparks.shift().node.remove();
    }
    for (const row of ended.slice(0, place.narrow ? MOST_SPARKS / 3 : MOST_SPARKS)) {
      const name = family(row.outcome, row.kind);
      const strand = this.strands.get(groupOf(groups, row)?.key);
      if (!strand || row.age_ms / 1000 > horizon) {
        continue;
      }
      // Any height of the strand will do, as long as neighbours differ.
      const y = strand.top + (0.15 + 0.7 * ((row.id * 0.61803) % 1)) * strand.height;
      const x = xOf(place, row.age_ms / 1000, horizon);
      const mark = svg('path', { class: 'spark-mark', d: SHAPES[name] });
      const node = svg('g', {
        class: `spark end-${name}`,
        transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`,
      }, mark);
      this.marks.append(node);
      this.sparks.push({ node, at: now });
    }
  }
}

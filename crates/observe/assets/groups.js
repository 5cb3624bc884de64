// Groups of connections, for when there are too many to draw each of them.

import { duration } from './format.js';

const EDGES = [0, 1, 3, 10, 30, 120, 600, 3600, 86400, Infinity];
const MOST_NETWORKS = 9;

/**
 * Points (age, how many are at most that old), by age. `live` has the newest connections, all of
 * them or 200; `ranks` has [how many are younger, age] of some older ones.
 */
export function agePoints(live, ranks, total) {
  const ages = live.map((row) => row.age_ms / 1000).sort((a, b) => a - b);
  const points = [[0, 0], ...ages.map((age, index) => [age, index + 1])];
  for (const [rank, age] of ranks) {
    const last = points.at(-1);
    if (rank > last[1] && age >= last[0]) {
      points.push([age, rank]);
    }
  }
  const last = points.at(-1);
  if (last[1] < total) {
    points.push([last[0], total]);
  }
  return points;
}

function between(points, column, value, wanted) {
  let low = 0;
  let high = points.length - 1;
  if (value >= points[high][column]) {
    return points[high][wanted];
  }
  while (high - low > 1) {
    const centre = (low + high) >> 1;
    if (points[centre][column] <= value) {
      low = centre;
    } else {
      high = centre;
    }
  }
  const [a, b] = [points[low], points[high]];
  const share = b[column] === a[column] ? 1 : (value - a[column]) / (b[column] - a[column]);
  return a[wanted] + (b[wanted] - a[wanted]) * share;
}

function edgeText(seconds) {
  return duration(seconds).replace(/\.0/, '').replace(/ 0\u00a0\w+$/, '');
}

/** The number of hairs that stand for a group: more for more, but never a mat. */
function hairsOf(number) {
  return Math.min(Math.round(number), 4 + Math.round(3.2 * Math.log2(Math.max(1, number))));
}

/** Groups by age, from the points of `agePoints`. */
export function byAge(points) {
  const groups = [];
  for (let i = 0; i + 1 < EDGES.length; i += 1) {
    const from = between(points, 0, EDGES[i], 1) * (EDGES[i] > 0 ? 1 : 0);
    const until = EDGES[i + 1] === Infinity ? points.at(-1)[1] : between(points, 0, EDGES[i + 1], 1);
    const number = Math.round(until) - Math.round(from);
    if (number <= 0) {
      continue;
    }
    const hairs = hairsOf(number);
    const ages = Array.from({ length: hairs }, (_, hair) =>
      between(points, 1, from + ((hair + 0.5) * (until - from)) / hairs, 0));
    const label = EDGES[i + 1] === Infinity
      ? `older than ${edgeText(EDGES[i])}`
      : `${edgeText(EDGES[i])} to ${edgeText(EDGES[i + 1])}`;
    groups.push({
      key: `age ${i}`, label: i === 0 ? 'younger than 1\u00a0s' : label, number, ages,
      from: EDGES[i], until: EDGES[i + 1],
    });
  }
  return groups;
}

/** The network of a peer as the log has it: an IPv4 /24, an IPv6 /48, or what else it says. */
export function networkOf(peer) {
  const four = /^(\d+\.\d+\.\d+)\.\d+(:\d+)?$/.exec(peer);
  if (four) {
    return `${four[1]}.0/24`;
  }
  const six = /^\[([0-9a-f:]+)(%[^\]]*)?\](:\d+)?$/i.exec(peer);
  if (six) {
    const [left, right] = six[1].split('::');
    const head = left === '' ? [] : left.split(':');
    const tail = right ? right.split(':') : [];
    const zeros = right === undefined ? 0 : Math.max(0, 8 - head.length - tail.length);
    const all = [...head, ...Array(zeros).fill('0'), ...tail];
    return `${all.slice(0, 3).join(':')}::/48`;
  }
  return peer.split(/[ ,]/)[0] || 'unknown';
}

/** Groups by network, of the connections in `live`. */
export function byNetwork(live) {
  const networks = new Map();
  for (const row of live) {
    const network = networkOf(String(row.peer ?? ''));
    networks.set(network, [...(networks.get(network) ?? []), row.age_ms / 1000]);
  }
  const sorted = [...networks].sort((a, b) => b[1].length - a[1].length || (a[0] < b[0] ? -1 : 1));
  const groups = sorted.slice(0, MOST_NETWORKS);
  const others = sorted.slice(MOST_NETWORKS).flatMap(([, ages]) => ages);
  if (others.length > 0) {
    groups.push([`${sorted.length - MOST_NETWORKS} other networks`, others]);
  }
  return groups.map(([label, ages]) => {
    ages.sort((a, b) => a - b);
    const hairs = hairsOf(ages.length);
    const shown = Array.from({ length: hairs }, (_, i) =>
      ages[Math.floor(((i + 0.5) * ages.length) / hairs)]);
    return { key: label, label, number: ages.length, ages: shown };
  });
}

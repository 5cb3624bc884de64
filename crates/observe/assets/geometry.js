// Where things are in the picture of the fork.

import { duration } from './format.js';

const TOP = 34;
const BOTTOM = 40;
const HORIZONS = [60, 600, 3600, 6 * 3600, 86400, 7 * 86400, 365 * 86400];
const TICKS = [1, 10, 60, 600, 3600, 6 * 3600, 86400, 7 * 86400, 365 * 86400];
const LANES = [12, 20, 32, 48, 64, 96];

/** The frame for a width: all positions that do not depend on connections. */
export function frame(width) {
  const narrow = width < 640;
  const height = narrow ? 420 : 500;
  const scale = Math.min(1.15, Math.max(0.8, width / 1300));
  return narrow
    ? { width, height, narrow, supervisor: 20, forkers: 62, neck: 88, root: 138, end: width - 22 }
    : {
        width,
        height,
        narrow,
        supervisor: 84 * scale,
        forkers: 232 * scale,
        neck: 318 * scale,
        root: 452 * scale,
        end: width - 190,
      };
}

export function middle(place) {
  return (TOP + place.height - BOTTOM) / 2;
}

/** The end of time on the axis: what the oldest connection needs, in steps. */
export function horizonFor(oldest) {
  return HORIZONS.find((seconds) => seconds >= oldest) ?? HORIZONS.at(-1);
}

/** The part of a tine's full length for an age: logarithmic, to show how young ones grow. */
export function reach(age, horizon) {
  const least = 0.4;
  const share = Math.log1p(Math.max(0, age) / least) / Math.log1p(horizon / least);
  return Math.min(1, 0.015 + 0.985 * share);
}

export function xOf(place, age, horizon) {
  return place.root + (place.end - place.root) * reach(age, horizon);
}

export function ticks(horizon) {
  return TICKS.filter((seconds) => seconds <= horizon).map((seconds) => ({
    seconds,
    text: duration(seconds).replace(/\.0/, '').replace(/\u00a0min 0\u00a0s/, '\u00a0min')
      .replace(/\u00a0h 0\u00a0min/, '\u00a0h').replace('24\u00a0h', '1\u00a0d')
      .replace(/\u00a0d 0\u00a0h/, '\u00a0d'),
  }));
}

/** How many lanes there are for this many connections. */
export function lanesFor(connections) {
  return LANES.find((lanes) => lanes >= connections) ?? LANES.at(-1);
}

export function laneY(place, lane, lanes) {
  const usable = place.height - TOP - BOTTOM;
  return TOP + ((lane + 0.5) * usable) / lanes;
}

/** The point of the neck where the line to a height begins. */
export function neckY(place, y) {
  return middle(place) + (y - middle(place)) * 0.22;
}

export function curve(place, y) {
  const from = neckY(place, y);
  const bend = (place.root - place.neck) * 0.55;
  return `M${place.neck} ${from.toFixed(1)} C${place.neck + bend} ${from.toFixed(1)} `
    + `${place.root - bend} ${y.toFixed(1)} ${place.root} ${y.toFixed(1)}`;
}

/** Lanes from the middle outwards: a few connections look like a fork, not like a comb. */
export function lanesFromMiddle(lanes) {
  const centre = (lanes - 1) / 2;
  const order = Array.from({ length: lanes }, (_, lane) => lane);
  return order.sort((a, b) => Math.abs(a - centre) - Math.abs(b - centre) || a - b);
}

export const band = { top: TOP, bottom: BOTTOM };

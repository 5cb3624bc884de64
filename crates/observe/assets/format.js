// Numbers, sizes and times as text.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

export function count(value) {
  return Number.isFinite(value) ? whole.format(value) : '–';
}

/** A rate: with one digit after the point where it is small. */
export function rate(value) {
  if (!Number.isFinite(value)) {
    return '–';
  }
  return value < 10 ? value.toFixed(1) : whole.format(value);
}

export function bytes(value) {
  if (!Number.isFinite(value)) {
    return '–';
  }
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let unit = 0;
  let left = value;
  while (left >= 1024 && unit < units.length - 1) {
    left /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || left >= 100 ? 0 : 1;
  return `${left.toFixed(digits)}\u00a0${units[unit]}`;
}

/** A duration in seconds, with two units at most. */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) {
    return '–';
  }
  if (seconds < 0.001) {
    return `${Math.round(seconds * 1e6)}\u00a0µs`;
  }
  if (seconds < 1) {
    const ms = seconds * 1000;
    return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)}\u00a0ms`;
  }
  if (seconds < 60) {
    return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)}\u00a0s`;
  }
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) {
    return `${minutes}\u00a0min ${Math.floor(seconds % 60)}\u00a0s`;
  }
  const hours = Math.floor(minutes / 60);
  if (hours < 48) {
    return `${hours}\u00a0h ${minutes % 60}\u00a0min`;
  }
  return `${Math.floor(hours / 24)}\u00a0d ${hours % 24}\u00a0h`;
}

/** A time of RFC 3339 as local time. */
export function moment(text) {
  const date = new Date(text);
  return Number.isNaN(date.getTime()) ? '–' : date.toLocaleString(undefined, { hour12: false });
}

export function percent(part, all) {
  return all > 0 ? `${((100 * part) / all).toFixed(part * 100 < all * 10 ? 1 : 0)}\u00a0%` : '–';
}

export function plural(number, one, many) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

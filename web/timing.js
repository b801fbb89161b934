/** Statistics of times. No DOM. All times in milliseconds. */

/** The median, null of nothing. */
export function median(values) {
  if (!values.length) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * Frames a second of a clip, from the times of its frames.
 *
 * @param {number[]} times of each frame, rising
 * @returns {?number} to two decimals; null for fewer than two frames, or frames at one moment
 */
export function framesPerSecond(times) {
  const span = times.length > 1 ? times[times.length - 1] - times[0] : 0;
  return span > 0 ? Math.round((1e5 * (times.length - 1)) / span) / 100 : null;
}

/** The last `size` values, for a median that follows what is going on now. */
export class Recent {
  #values = [];

  constructor(size) {
    this.size = size;
  }

  add(value) {
    this.#values.push(value);
    if (this.#values.length > this.size) this.#values.shift();
  }

  clear() {
    this.#values = [];
  }

  get count() {
    return this.#values.length;
  }

  get median() {
    return median(this.#values);
  }
}

/** A duration for people: "38 ms", "1.2 s". */
export function duration(ms, language) {
  if (ms === null || !Number.isFinite(ms)) return "–";
  const number = (value, digits) =>
    new Intl.NumberFormat(language, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
  return ms < 1000 ? `${number(ms, ms < 10 ? 1 : 0)} ms` : `${number(ms / 1000, 1)} s`;
}

/** A size for people: "812 B", "94 kB", "1.2 MB". */
export function size(bytes, language) {
  const number = (value, digits) => new Intl.NumberFormat(language, { maximumFractionDigits: digits }).format(value);
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${number(bytes / 1e3, 0)} kB` : `${number(bytes / 1e6, 1)} MB`;
}

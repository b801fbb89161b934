/** Statistics of times. No DOM. All times in milliseconds. */

/** Return the median, null for an empty list. */
export function median(values) {
  if (!values.length) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * Return a clip's frames per second.
 *
 * @param {number[]} times of each frame, increasing
 * @returns {?number} to two decimals; null for fewer than two frames, or if all times are equal
 */
export function framesPerSecond(times) {
  const span = times.length > 1 ? times[times.length - 1] - times[0] : 0;
  return span > 0 ? Math.round((1e5 * (times.length - 1)) / span) / 100 : null;
}

/** The last `size` values, for a moving median. */
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

/** Format a duration: "38 ms", "1.2 s". */
export function duration(ms, language) {
  if (ms === null || !Number.isFinite(ms)) return "–";
  const number = (value, digits) =>
    new Intl.NumberFormat(language, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
  return ms < 1000 ? `${number(ms, ms < 10 ? 1 : 0)} ms` : `${number(ms / 1000, 1)} s`;
}

/** Format a size: "812 B", "94 kB", "1.2 MB". */
export function size(bytes, language) {
  const number = (value, digits) => new Intl.NumberFormat(language, { maximumFractionDigits: digits }).format(value);
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${number(bytes / 1e3, 0)} kB` : `${number(bytes / 1e6, 1)} MB`;
}

/**
 * When a sign begins and ends, told by hands that rise and fall. No DOM.
 *
 * Heights are measured in widths of the shoulders below them, so that it matters neither how far away nor how tall a
 * person is. Hands that hang down or lie in the lap are about 1.3 widths and more below the shoulders.
 */

import { POSE } from "./layout.js";

/** A wrist less than this below the shoulders is raised, and one more than LOWERED below is lowered; between, as before. */
export const RAISED = 0.95;
export const LOWERED = 1.15;

/** Milliseconds: how long a hand has to be up to start, how long both have to be down to end, what is kept around. */
export const UP_MS = 120;
export const DOWN_MS = 450;
export const MARGIN_MS = 250;

/**
 * How far the higher wrist is below the shoulders.
 *
 * @param {Array<?[number, number]>} frame 543 points
 * @param {number} aspect the picture's width divided by its height
 * @returns {?number} in widths of the shoulders; null where the shoulders or both wrists are missing
 */
export function depth(frame, aspect) {
  const [left, right] = [frame[POSE.leftShoulder], frame[POSE.rightShoulder]];
  const wrists = [frame[POSE.leftWrist], frame[POSE.rightWrist]].filter(Boolean);
  if (!left || !right || !wrists.length) return null;
  const width = Math.hypot((left[0] - right[0]) * aspect, left[1] - right[1]);
  if (width < 0.02) return null; // seen from the side: no measure
  return Math.min(...wrists.map((wrist) => wrist[1] - (left[1] + right[1]) / 2)) / width;
}

/**
 * Follows a person frame by frame.
 *
 * States: `away` (nobody, or hands not yet seen down), `down` (ready), `up` (signing). Nothing starts before the hands
 * have been down, so that who sits down before the camera with raised hands is not recorded.
 */
export class HandWatch {
  #since = null; // when the hands first were otherwise than the state says
  #begin = null;
  state = "away";

  /** Forget everything. */
  reset() {
    this.state = "away";
    this.#since = this.#begin = null;
  }

  /**
   * Look at the next frame.
   *
   * @param {?number} below what `depth` says of it
   * @param {number} time of the frame, milliseconds, rising
   * @returns {?{event: "start"|"end", from: number, to?: number}} the moments between which the sign lies
   */
  see(below, time) {
    if (this.state === "away") {
      if (below !== null && below > LOWERED) this.state = "down";
      return null;
    }
    const turns = this.state === "down" ? below !== null && below < RAISED : below === null || below > LOWERED;
    if (!turns) {
      this.#since = null;
      return null;
    }
    this.#since ??= time;
    const held = time - this.#since;
    if (this.state === "down" && held >= UP_MS) {
      this.#begin = this.#since - MARGIN_MS;
      this.state = "up";
      this.#since = null;
      return { event: "start", from: this.#begin };
    }
    if (this.state === "up" && held >= DOWN_MS) {
      const end = { event: "end", from: this.#begin, to: this.#since + MARGIN_MS };
      this.state = below === null ? "away" : "down";
      this.#since = this.#begin = null;
      return end;
    }
    return null;
  }
}

/**
 * Where the sign lies in a recording that was not followed while it ran.
 *
 * @param {Array<?number>} depths what `depth` says of each frame
 * @param {number[]} times of the frames, milliseconds
 * @returns {?{from: number, to: number}} null where no hand was raised
 */
export function signIn(depths, times) {
  const first = depths.findIndex((below) => below !== null && below < RAISED);
  if (first < 0) return null;
  const last = depths.findLastIndex((below) => below !== null && below <= LOWERED);
  return { from: times[first] - MARGIN_MS, to: times[last] + MARGIN_MS };
}

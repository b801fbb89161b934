/**
 * When a sign begins and ends, told by hands that rise and fall. No DOM.
 *
 * Heights are measured in widths of the shoulders below them, so that it matters neither how far away nor how tall a
 * person is. Hands that hang down or lie in the lap are about 1.3 widths and more below the shoulders; hands folded
 * before the belly are 0.9 below, as high as some signs are made.
 */

import { POSE } from "./layout.js";

/** A wrist less than this below the shoulders is raised, and one more than LOWERED below is lowered; between, as before. */
export const RAISED = 0.95;
export const LOWERED = 1.15;

/** A wrist less than this from where it rests is still. */
export const STILL = 0.25;

/** Milliseconds: how long a hand has to be up to start, how long both have to be down to end, what is kept around. */
export const UP_MS = 120;
export const DOWN_MS = 450;
export const MARGIN_MS = 400;

/**
 * How far the higher wrist is below the shoulders.
 *
 * @param {Array<?[number, number]>} frame 543 points
 * @param {number} aspect the picture's width divided by its height
 * @returns {?number} in widths of the shoulders; null where the shoulders or both wrists are missing
 */
export function depth(frame, aspect) {
  const width = breadth(frame, aspect);
  const wrists = WRISTS.map((i) => frame[i]).filter(Boolean);
  if (width === null || !wrists.length) return null;
  const shoulders = (frame[POSE.leftShoulder][1] + frame[POSE.rightShoulder][1]) / 2;
  return Math.min(...wrists.map((wrist) => wrist[1] - shoulders)) / width;
}

/** How far the shoulders are apart, in heights of the picture; null where that is no measure. */
function breadth(frame, aspect) {
  const [left, right] = [frame[POSE.leftShoulder], frame[POSE.rightShoulder]];
  if (!left || !right) return null;
  const width = distance(left, right, aspect);
  return width < 0.02 ? null : width; // seen from the side
}

const WRISTS = [POSE.leftWrist, POSE.rightWrist];
const distance = (one, other, aspect) => Math.hypot((one[0] - other[0]) * aspect, one[1] - other[1]);

/**
 * Follows a person frame by frame.
 *
 * States: `away` (nobody, or hands not yet seen down), `down` (ready), `up` (signing). Nothing starts before the hands
 * have been down, so that who sits down before the camera with raised hands is not recorded.
 */
export class HandWatch {
  #since = null; // when the hands first were otherwise than the state says
  #last = null; // time of the last frame
  #from = null; // time of the frame before #since

  /** @param {"away"|"down"} state what is known of the hands */
  constructor(state = "away") {
    this.state = state;
  }

  /** Forget everything. */
  reset() {
    this.state = "away";
    this.#since = null;
  }

  /**
   * Look at the next frame.
   *
   * @param {?number} below what `depth` says of it
   * @param {number} time of the frame, milliseconds, rising
   * @returns {?{event: "start"|"end", from?: number}} `from` is the moment from which frames are wanted: the hands may
   *   have risen at any time since the frame before the one that shows them raised
   */
  see(below, time) {
    const previous = this.#last ?? time;
    this.#last = time;
    if (this.state === "away") {
      if (below !== null && below > LOWERED) this.state = "down";
      return null;
    }
    const turns = this.state === "down" ? below !== null && below < RAISED : below === null || below > LOWERED;
    if (!turns) {
      this.#since = null;
      return null;
    }
    if (this.#since === null) [this.#since, this.#from] = [time, previous];
    const held = time - this.#since;
    if (this.state === "down" && held >= UP_MS) {
      const from = this.#from - MARGIN_MS;
      this.state = "up";
      this.#since = null;
      return { event: "start", from };
    }
    if (this.state === "up" && held >= DOWN_MS) {
      this.state = below === null ? "away" : "down";
      this.#since = null;
      return { event: "end" };
    }
    return null;
  }
}

/**
 * Leave out the rest before and after a sign: the frames at either end in which the hands are lowered, or have not yet
 * left, or do not leave any more, the place where they rest.
 *
 * A model learns from clips that are cut to their signs. Two seconds of rest at each end let the embedded one take half
 * of its own signs for unknown.
 *
 * @param {import("./clip.js").Clip} clip
 * @returns {?import("./clip.js").Clip} with MARGIN_MS of rest at both ends; null where no hand is raised, and nothing
 *   tells what is rest
 */
export function withoutRest(clip) {
  const { frames, times } = clip;
  const aspect = clip.width / clip.height;
  const depths = frames.map((frame) => depth(frame, aspect));
  const raised = depths.findIndex((below) => below !== null && below < RAISED);
  if (raised < 0) return null;
  const lowered = depths.findLastIndex((below) => below !== null && below <= LOWERED);
  const part = frames.slice(raised, lowered + 1);
  let first = raised + still(part, aspect);
  let last = lowered - still(part.reverse(), aspect);
  if (first > last) [first, last] = [raised, lowered]; // from one place to another, and no more
  return clip.between(times[first] - MARGIN_MS, times[last] + MARGIN_MS);
}

/** How many frames there are before a wrist has left its place in the first of them; 0 where none leaves it. */
function still(frames, aspect) {
  const rest = frames.find((frame) => breadth(frame, aspect) !== null);
  const far = STILL * breadth(rest, aspect);
  const left = (frame) => WRISTS.some((i) => rest[i] && frame[i] && distance(rest[i], frame[i], aspect) > far);
  return Math.max(0, frames.findIndex(left));
}

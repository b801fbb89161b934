/**
 * Detects where a sign starts and ends, from hands that rise and fall. No DOM.
 *
 * The depth of a hand is its distance below the shoulders in shoulder widths, which depends on neither the person's
 * distance nor height. Hands that hang down or lie in the lap have a depth of about 1.3 or more. Hands folded in front of
 * the belly have a depth of 0.9, the same as in some signs.
 */

import { POSE } from "./layout.js";

/** A wrist is raised if its depth is less than RAISED, and lowered if it is more than LOWERED; in between, its state stays. */
export const RAISED = 0.95;
export const LOWERED = 1.15;

/** A wrist that is less than this away from its place of rest, in shoulder widths, is at rest. */
export const STILL = 0.25;

/** Milliseconds: a hand raised for UP_MS starts a sign, both lowered for DOWN_MS end it, MARGIN_MS of rest are kept. */
export const UP_MS = 120;
export const DOWN_MS = 450;
export const MARGIN_MS = 400;

/**
 * Return the depth of the higher wrist.
 *
 * @param {Array<?[number, number]>} frame 543 points
 * @param {number} aspect the picture's width divided by its height
 * @returns {?number} shoulder widths below the shoulders; null if a shoulder or both wrists are missing
 */
export function wristDepth(frame, aspect) {
  const width = shoulderWidth(frame, aspect);
  const wrists = WRISTS.map((i) => frame[i]).filter(Boolean);
  if (width === null || !wrists.length) return null;
  const shoulders = (frame[POSE.leftShoulder][1] + frame[POSE.rightShoulder][1]) / 2;
  return Math.min(...wrists.map((wrist) => wrist[1] - shoulders)) / width;
}

/** Return the distance of the shoulders in picture heights; null if it cannot serve as a measure. */
function shoulderWidth(frame, aspect) {
  const [left, right] = [frame[POSE.leftShoulder], frame[POSE.rightShoulder]];
  if (!left || !right) return null;
  const width = distance(left, right, aspect);
  return width < 0.02 ? null : width; // seen from the side
}

const WRISTS = [POSE.leftWrist, POSE.rightWrist];
const distance = (a, b, aspect) => Math.hypot((a[0] - b[0]) * aspect, a[1] - b[1]);

/**
 * Follows the hands frame by frame.
 *
 * States: `away` (no person, or hands not yet seen lowered), `down` (ready), `up` (signing). A sign starts only after the
 * hands have been lowered, so that a person who sits down with raised hands is not recorded.
 */
export class HandWatch {
  #changed = null; // time of the frame since which the hands contradict the state
  #last = null; // time of the last frame
  #unchanged = null; // time of the frame before #changed

  /** @param {"away"|"down"} state `down` if the hands are known to be lowered */
  constructor(state = "away") {
    this.state = state;
  }

  /** Start again in the state `away`. */
  reset() {
    this.state = "away";
    this.#changed = null;
  }

  /**
   * Process the next frame.
   *
   * @param {?number} depth result of `wristDepth`
   * @param {number} time of the frame, milliseconds, increasing
   * @returns {?{event: "start"|"end", from?: number}} `from` is the time of the first frame to record: a margin before the
   *   last frame without raised hands, because they may have risen at any time after it
   */
  update(depth, time) {
    const previous = this.#last ?? time;
    this.#last = time;
    if (this.state === "away") {
      if (depth !== null && depth > LOWERED) this.state = "down";
      return null;
    }
    const contradicts = this.state === "down" ? depth !== null && depth < RAISED : depth === null || depth > LOWERED;
    if (!contradicts) {
      this.#changed = null;
      return null;
    }
    if (this.#changed === null) [this.#changed, this.#unchanged] = [time, previous];
    const elapsed = time - this.#changed;
    if (this.state === "down" && elapsed >= UP_MS) {
      const from = this.#unchanged - MARGIN_MS;
      this.state = "up";
      this.#changed = null;
      return { event: "start", from };
    }
    if (this.state === "up" && elapsed >= DOWN_MS) {
      this.state = depth === null ? "away" : "down";
      this.#changed = null;
      return { event: "end" };
    }
    return null;
  }
}

/**
 * Cut off the rest before and after a sign: the frames at both ends in which the hands are lowered or stay in their place
 * of rest.
 *
 * Models learn from clips that are cut to their signs. With two seconds of rest at each end, the bundled model reports half
 * of the clips of its signs as unknown.
 *
 * @param {import("./clip.js").Clip} clip
 * @returns {?import("./clip.js").Clip} with MARGIN_MS of rest at both ends; null if no hand is raised, so that rest
 *   cannot be detected
 */
export function cutRest(clip) {
  const { frames, times } = clip;
  const aspect = clip.width / clip.height;
  const depths = frames.map((frame) => wristDepth(frame, aspect));
  const firstRaised = depths.findIndex((depth) => depth !== null && depth < RAISED);
  if (firstRaised < 0) return null;
  const lastNotLowered = depths.findLastIndex((depth) => depth !== null && depth <= LOWERED);
  const part = frames.slice(firstRaised, lastNotLowered + 1);
  let first = firstRaised + countStill(part, aspect);
  let last = lastNotLowered - countStill(part.reverse(), aspect);
  if (first > last) [first, last] = [firstRaised, lastNotLowered]; // one move between two places of rest
  return clip.between(times[first] - MARGIN_MS, times[last] + MARGIN_MS);
}

/** Return the number of frames before a wrist leaves its first place; 0 if none does. */
function countStill(frames, aspect) {
  const rest = frames.find((frame) => shoulderWidth(frame, aspect) !== null);
  const far = STILL * shoulderWidth(rest, aspect);
  const hasMoved = (frame) => WRISTS.some((i) => rest[i] && frame[i] && distance(rest[i], frame[i], aspect) > far);
  return Math.max(0, frames.findIndex(hasMoved));
}

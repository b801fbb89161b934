/** Clips: frames of landmarks with their times, and the JSON that is sent, kept and read again. No DOM. */

import { ALL_POINTS, has, select } from "./layout.js";
import { framesPerSecond } from "./timing.js";

const DECIMALS = 1e5; // a hundredth of a pixel in a picture 1000 wide

/** Frames of one person, in order. */
export class Clip {
  /**
   * @param {Array<Array<?[number, number]>>} frames 543 points each, not mirrored
   * @param {number[]} times of each frame in milliseconds, rising
   * @param {{width: number, height: number}} size of the picture in pixels
   * @param {"camera"|"video"|"file"} source
   * @param {number[]} [costs] milliseconds that each frame's landmarks took
   */
  constructor(frames, times, size, source, costs = []) {
    this.frames = frames;
    this.times = times;
    this.width = size.width;
    this.height = size.height;
    this.source = source;
    this.costs = costs;
    /** The clip that this one was cut from. */
    this.whole = this;
  }

  /** A clip of frames that were found one by one. */
  static of(found, size, source) {
    const column = (name) => found.map((one) => one[name]);
    return new Clip(column("frame"), column("time"), size, source, column("ms"));
  }

  get fps() {
    return framesPerSecond(this.times);
  }

  /** The frames from `start` to before `end`. */
  slice(start, end) {
    const cut = (list) => list.slice(start, end);
    const part = new Clip(cut(this.frames), cut(this.times), this, this.source, cut(this.costs));
    part.whole = this.whole;
    return part;
  }

  /** The frames whose times lie between two moments, both included. */
  between(from, to) {
    const start = this.times.findIndex((time) => time >= from);
    const end = this.times.findLastIndex((time) => time <= to);
    return start < 0 || end < start ? this.slice(0, 0) : this.slice(start, end + 1);
  }
}

/** The rule of round_points in spoter/landmarks/clip.py: no coordinate but 0 becomes 0, for a point whose x is 0 is not normalized. */
const rounded = (value) => (Math.round(value * DECIMALS) || Math.sign(value)) / DECIMALS;
const written = (points) => points.map((point) => (point ? [rounded(point[0]), rounded(point[1])] : null));

/**
 * The compact form: only what the model is fed, in its layout's order.
 *
 * @param {Clip} clip
 * @param {{name: string, mediapipe: Array<?number>}} layout
 * @returns {{layout: string, fps?: number, points: Array}}
 */
export function compact(clip, layout) {
  return {
    layout: layout.name,
    ...(clip.fps ? { fps: clip.fps } : {}),
    points: clip.frames.map((frame) => written(select(frame, layout.mediapipe))),
  };
}

/** All 543 points of MediaPipe Holistic, which fit any layout, with the picture's size. */
export function complete(clip) {
  return {
    estimator: "mediapipe",
    ...(clip.fps ? { fps: clip.fps } : {}),
    width: clip.width,
    height: clip.height,
    points: clip.frames.map(written),
  };
}

/** The body of a question: the compact form, how many answers, and glosses that this browser keeps. */
export function question(clip, layout, topK, enrolled = null) {
  return JSON.stringify({ ...compact(clip, layout), top_k: topK, ...(enrolled ? { enrolled } : {}) });
}

/**
 * Read a clip that this page wrote, so that it can be shown and asked about again.
 *
 * @param {string} text
 * @param {{name: string, mediapipe: Array<?number>}} layout the model's
 * @returns {?Clip} null for any other form, which only the server reads
 */
export function readClip(text, layout) {
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    return null;
  }
  if (!Array.isArray(body?.points) || !body.points.length || body.clips) return null;
  const inLayout = body.layout !== undefined && String(body.layout) === layout.name;
  const size = inLayout ? layout.mediapipe.length : ALL_POINTS;
  if (!inLayout && body.layout !== undefined) return null;
  const good = (point) => point === null || (Array.isArray(point) && point.length === 2 && point.every(isFraction));
  const frames = body.points.map((points) => points ?? new Array(size).fill(null));
  if (!frames.every((points) => Array.isArray(points) && points.length === size && points.every(good))) return null;
  const fps = body.fps > 0 ? body.fps : 25; // what the embedded model was trained at; only the replay's speed
  const whole = inLayout ? frames.map((points) => spread(points, layout.mediapipe)) : frames;
  const picture = { width: body.width > 0 ? body.width : 640, height: body.height > 0 ? body.height : 480 };
  return new Clip(whole, frames.map((_, i) => (1000 * i) / fps), picture, "file");
}

const isFraction = (value) => Number.isFinite(value) && Math.abs(value) <= 10;

/** Put a layout's points back where they are among MediaPipe's 543. */
function spread(points, mediapipe) {
  const frame = new Array(ALL_POINTS).fill(null);
  mediapipe.forEach((index, i) => {
    if (index !== null && index < ALL_POINTS) frame[index] = points[i];
  });
  return frame;
}

/**
 * What keeps a clip from being worth asking about.
 *
 * @param {Clip} clip
 * @param {{max_frames: number}} limits of the model
 * @returns {{errors: string[], warnings: string[]}} codes of messages
 */
export function check(clip, limits) {
  const errors = [];
  const warnings = [];
  const seen = (part) => clip.frames.some((frame) => has(frame, part));
  if (clip.frames.length < MIN_FRAMES) errors.push("clip_too_short");
  else if (clip.frames.length > limits.max_frames) errors.push("clip_too_long");
  else if (!seen("pose") && !seen("leftHand") && !seen("rightHand")) errors.push("no_person");
  else if (!seen("leftHand") && !seen("rightHand")) warnings.push("hands_never_seen");
  return { errors, warnings };
}

/** Of a clip with fewer frames a second than these nobody can tell whether it is one of the signs. */
export const MIN_FPS = 15;

/** Fewer frames than these are no sign: a third of a second at 25 frames a second would be 8, and slow cameras give half. */
export const MIN_FRAMES = 4;

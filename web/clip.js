/** Clips: frames of landmarks with their times, and their JSON, which is sent, downloaded and read again. No DOM. */

import { ALL_POINTS, has, select } from "./layout.js";
import { framesPerSecond } from "./timing.js";

const DECIMALS = 1e5; // rounds to a hundredth of a pixel in a picture of 1000 pixels

/** Frames of one person, in order. */
export class Clip {
  /**
   * @param {Array<Array<?[number, number]>>} frames 543 points per frame, not mirrored
   * @param {number[]} times of each frame in milliseconds, increasing
   * @param {{width: number, height: number}} size of the picture in pixels
   * @param {"camera"|"video"|"file"} source
   * @param {number[]} [durations] milliseconds that each frame's landmarks took
   */
  constructor(frames, times, size, source, durations = []) {
    this.frames = frames;
    this.times = times;
    this.width = size.width;
    this.height = size.height;
    this.source = source;
    this.durations = durations;
    /** The clip before frames were cut off. */
    this.uncut = this;
  }

  /** Make a clip from a list of frames with their times and durations. */
  static of(results, size, source) {
    const column = (name) => results.map((result) => result[name]);
    return new Clip(column("frame"), column("time"), size, source, column("ms"));
  }

  get fps() {
    return framesPerSecond(this.times);
  }

  /** Return the frames `start` to `end - 1`. */
  slice(start, end) {
    const cut = (list) => list.slice(start, end);
    const part = new Clip(cut(this.frames), cut(this.times), this, this.source, cut(this.durations));
    part.uncut = this.uncut;
    return part;
  }

  /** Return the frames from one time to another, both included. */
  between(from, to) {
    const start = this.times.findIndex((time) => time >= from);
    const end = this.times.findLastIndex((time) => time <= to);
    return start < 0 || end < start ? this.slice(0, 0) : this.slice(start, end + 1);
  }
}

/** Round as round_points in spoter/landmarks/clip.py does: only 0 becomes 0, because points with x = 0 are not normalized. */
const rounded = (value) => (Math.round(value * DECIMALS) || Math.sign(value)) / DECIMALS;
const encode = (points) => points.map((point) => (point ? [rounded(point[0]), rounded(point[1])] : null));

/**
 * Return the compact form: only the landmarks of the model's layout, in its order.
 *
 * @param {Clip} clip
 * @param {{name: string, mediapipe: Array<?number>}} layout
 * @returns {{layout: string, fps?: number, points: Array}}
 */
export function compact(clip, layout) {
  return {
    layout: layout.name,
    ...(clip.fps ? { fps: clip.fps } : {}),
    points: clip.frames.map((frame) => encode(select(frame, layout.mediapipe))),
  };
}

/** Return the complete form: all 543 points of MediaPipe Holistic, which fit any layout, and the picture's size. */
export function complete(clip) {
  return {
    estimator: "mediapipe",
    ...(clip.fps ? { fps: clip.fps } : {}),
    width: clip.width,
    height: clip.height,
    points: clip.frames.map(encode),
  };
}

/** Return the body of a request: the compact form, the number of glosses to return, and the glosses kept in this browser. */
export function requestBody(clip, layout, topK, enrolled = null) {
  return JSON.stringify({ ...compact(clip, layout), top_k: topK, ...(enrolled ? { enrolled } : {}) });
}

/**
 * Parse a clip that this page wrote, to show it and send it again.
 *
 * @param {string} text
 * @param {{name: string, mediapipe: Array<?number>}} layout the model's
 * @returns {?Clip} null for all other forms, which only the server can read
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
  const isPoint = (point) => point === null || (Array.isArray(point) && point.length === 2 && point.every(isFraction));
  const frames = body.points.map((points) => points ?? new Array(size).fill(null));
  if (!frames.every((points) => Array.isArray(points) && points.length === size && points.every(isPoint))) return null;
  const fps = body.fps > 0 ? body.fps : 25; // the bundled model's training data; sets only the speed of the replay
  const allPoints = inLayout ? frames.map((points) => expand(points, layout.mediapipe)) : frames;
  const picture = { width: body.width > 0 ? body.width : 640, height: body.height > 0 ? body.height : 480 };
  return new Clip(allPoints, frames.map((_, i) => (1000 * i) / fps), picture, "file");
}

const isFraction = (value) => Number.isFinite(value) && Math.abs(value) <= 10;

/** Return a frame of 543 points with a layout's points at MediaPipe's indices. */
function expand(points, mediapipe) {
  const frame = new Array(ALL_POINTS).fill(null);
  mediapipe.forEach((index, i) => {
    if (index !== null && index < ALL_POINTS) frame[index] = points[i];
  });
  return frame;
}

/**
 * Check whether a clip is worth sending.
 *
 * @param {Clip} clip
 * @param {{max_frames: number}} limits of the model
 * @returns {{errors: string[], warnings: string[]}} message codes
 */
export function check(clip, limits) {
  const errors = [];
  const warnings = [];
  const hasPart = (part) => clip.frames.some((frame) => has(frame, part));
  if (clip.frames.length < MIN_FRAMES) errors.push("clip_too_short");
  else if (clip.frames.length > limits.max_frames) errors.push("clip_too_long");
  else if (!hasPart("pose") && !hasPart("leftHand") && !hasPart("rightHand")) errors.push("no_person");
  else if (!hasPart("leftHand") && !hasPart("rightHand")) warnings.push("hands_never_seen");
  return { errors, warnings };
}

/** Below this number of frames per second, `known` = false does not mean that the clip shows none of the signs. */
export const MIN_FPS = 15;

/** Clips with fewer frames are too short: a third of a second has 8 frames at 25 per second, and 4 from a slow camera. */
export const MIN_FRAMES = 4;

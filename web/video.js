/**
 * A video file, frame by frame: each is sought and shown, so that none is missed however slow the landmarks are.
 *
 * Browsers do not tell a file's frame rate. The times of frames are learned from what is shown after each seek
 * (`requestVideoFrameCallback`): a step that is longer than the shortest so far is looked into for a frame in between.
 */

const FINEST = 1 / 120; // seconds; the first step, before any distance of frames is known
const ASSUMED = 1 / 25; // seconds; where the browser does not tell which frame it shows
const SETTLING = 150; // milliseconds; several frames of a screen
const PATIENCE = 10_000; // milliseconds that a seek may take
const OPENING = 30_000; // milliseconds until the first picture
const QUIET = 1_000; // milliseconds after a seek in which a frame is shown, if another one is: behind the last there is none

/** A video that cannot be read; `code` is that of a message, and `values` are what it says. */
export class VideoError extends Error {
  constructor(code, cause, values = {}) {
    super(code, { cause });
    this.code = code;
    this.values = values;
  }
}

/**
 * Open a video file.
 *
 * @param {HTMLVideoElement} video to show it in
 * @param {Blob} file
 * @returns {Promise<() => void>} a function that lets go of it
 * @throws {VideoError} `bad_video` where the browser cannot play it
 */
export async function openVideo(video, file) {
  const url = URL.createObjectURL(file);
  const close = () => {
    video.removeAttribute("src");
    video.load();
    URL.revokeObjectURL(url);
  };
  try {
    await new Promise((resolve, reject) => {
      const fail = () => reject(video.error);
      setTimeout(fail, OPENING); // some browsers neither show nor refuse what they cannot decode
      video.addEventListener("error", fail, { once: true });
      video.addEventListener("loadeddata", resolve, { once: true });
      video.muted = true;
      video.src = url;
      video.load();
    });
    if (!video.videoWidth) throw new Error("no picture");
    // What a browser recorded has no length until its end was seen.
    if (!Number.isFinite(video.duration)) await toTheEnd(video);
    return close;
  } catch (error) {
    close();
    throw new VideoError("bad_video", error);
  }
}

function toTheEnd(video) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("no end")), PATIENCE);
    const look = () => {
      if (!Number.isFinite(video.duration)) return;
      clearTimeout(timer);
      video.removeEventListener("durationchange", look);
      resolve();
    };
    video.addEventListener("durationchange", look);
    video.currentTime = 1e7;
  });
}

/**
 * Show every frame of an open video, one after the other.
 *
 * @param {HTMLVideoElement} video
 * @param {AbortSignal} signal ends it between two frames
 * @yields {{time: number, step: ?number}} milliseconds of the frame that is shown now, and of the shortest distance of
 *   two frames so far
 */
export async function* frames(video, signal) {
  const told = typeof video.requestVideoFrameCallback === "function";
  const end = video.duration;
  let shown = (await seek(video, 0)) ?? 0;
  let step = told ? null : ASSUMED;
  yield { time: 1000 * shown, step: step && 1000 * step };
  while (!signal.aborted) {
    const next = told ? await following(video, shown, step ?? FINEST, end) : await plain(video, shown + ASSUMED, end);
    if (next === null) return;
    step = Math.min(step ?? Infinity, next - shown);
    shown = next;
    yield { time: 1000 * shown, step: 1000 * step };
  }
}

/** Show the frame after the one of time `shown`; return its time, null at the end. All in seconds. */
async function following(video, shown, step, end) {
  let found = shown;
  // Half a step into the next frame, so that rounding cannot bring back this one.
  for (let target = shown + 1.5 * step; found <= shown; target += 0.5 * step) {
    const last = target >= end;
    found = (await seek(video, Math.min(target, end))) ?? shown;
    if (last && found <= shown) return null;
  }
  while (found - shown > 1.25 * step) {
    const between = await seek(video, found - 0.25 * step);
    if (between === null || between <= shown || between >= found) break;
    found = between;
  }
  await seek(video, found + 0.25 * step);
  return found;
}

async function plain(video, target, end) {
  if (target >= end) return null;
  await seek(video, target);
  return target;
}

/**
 * Go to a moment.
 *
 * @param {HTMLVideoElement} video
 * @param {number} target seconds
 * @returns {Promise<?number>} seconds, the time of the frame that is shown there; null where no other frame was shown
 */
async function seek(video, target) {
  await visible();
  const told = typeof video.requestVideoFrameCallback === "function";
  return new Promise((resolve, reject) => {
    let sought = false;
    let handle = null;
    let quiet = null;
    const finish = (settle, value) => {
      clearTimeout(timer);
      clearTimeout(quiet);
      if (told) video.cancelVideoFrameCallback(handle);
      video.removeEventListener("seeked", arrived);
      video.removeEventListener("error", fail);
      settle(value);
    };
    const fail = () => finish(reject, new VideoError("bad_video", video.error));
    const timer = setTimeout(fail, PATIENCE);
    let latest = null;
    const present = (_, data) => {
      latest = data.mediaTime;
      // A frame that was on its way may come before the seek has ended: the one to take comes with its end or after.
      if (sought) finish(resolve, latest);
      else handle = video.requestVideoFrameCallback(present);
    };
    const arrived = () => {
      sought = true;
      if (!told) finish(resolve, target);
      else if (latest !== null) finish(resolve, latest);
      else quiet = setTimeout(() => finish(resolve, null), QUIET);
    };
    if (told) handle = video.requestVideoFrameCallback(present);
    video.addEventListener("seeked", arrived);
    video.addEventListener("error", fail);
    video.currentTime = target;
  });
}

/** Wait until the page is seen: a browser shows no frames in one that is hidden. */
function visible() {
  if (document.visibilityState === "visible") return Promise.resolve();
  return new Promise((resolve) => {
    const look = () => {
      if (document.visibilityState !== "visible") return;
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
  });
}

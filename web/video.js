/**
 * Reads a video file frame by frame: seeks every frame, so that none is missed even if landmarks take long.
 *
 * Browsers do not report a file's frame rate. The times of frames are learned from the frames shown after each seek
 * (`requestVideoFrameCallback`): if a step is longer than the shortest one so far, the page searches for a frame in between.
 */

const FIRST_STEP = 1 / 120; // seconds; used until the time between two frames is known
const ASSUMED_STEP = 1 / 25; // seconds; used if the browser does not report which frame it shows
const SEEK_TIMEOUT = 10_000; // milliseconds
const OPEN_TIMEOUT = 30_000; // milliseconds until the first picture
const FRAME_TIMEOUT = 1_000; // milliseconds from the end of a seek until its frame is shown; after the last frame, none is

/** A video that cannot be read; `code` is the code of a message, `values` are its replacements. */
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
 * @param {HTMLVideoElement} video the element to show it in
 * @param {Blob} file
 * @returns {Promise<() => void>} a function that closes the file
 * @throws {VideoError} `bad_video` if the browser cannot play it
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
      setTimeout(fail, OPEN_TIMEOUT); // some browsers report no error for a file that they cannot decode
      video.addEventListener("error", fail, { once: true });
      video.addEventListener("loadeddata", resolve, { once: true });
      video.muted = true;
      video.src = url;
      video.load();
    });
    if (!video.videoWidth) throw new Error("no picture");
    // Files recorded by a browser have no duration until the end has been sought.
    if (!Number.isFinite(video.duration)) await findDuration(video);
    return close;
  } catch (error) {
    close();
    throw new VideoError("bad_video", error);
  }
}

function findDuration(video) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("no end")), SEEK_TIMEOUT);
    const check = () => {
      if (!Number.isFinite(video.duration)) return;
      clearTimeout(timer);
      video.removeEventListener("durationchange", check);
      resolve();
    };
    video.addEventListener("durationchange", check);
    video.currentTime = 1e7;
  });
}

/**
 * Show the frames of an open video, one after the other.
 *
 * @param {HTMLVideoElement} video
 * @param {AbortSignal} signal stops between two frames
 * @yields {{time: number, step: ?number}} time of the frame that is shown now, and the shortest time between two frames so
 *   far, both in milliseconds
 */
export async function* frames(video, signal) {
  const reportsFrames = typeof video.requestVideoFrameCallback === "function";
  const end = video.duration;
  let shown = (await seek(video, 0)) ?? 0;
  let step = reportsFrames ? null : ASSUMED_STEP;
  yield { time: 1000 * shown, step: step && 1000 * step };
  while (!signal.aborted) {
    const next = reportsFrames
      ? await nextFrame(video, shown, step ?? FIRST_STEP, end)
      : await assumedFrame(video, shown + ASSUMED_STEP, end);
    if (next === null) return;
    step = Math.min(step ?? Infinity, next - shown);
    shown = next;
    yield { time: 1000 * shown, step: 1000 * step };
  }
}

/** Show the frame that follows the frame with time `shown`; return its time, null at the end. All times in seconds. */
async function nextFrame(video, shown, step, end) {
  let next = shown;
  // Seek the middle of the next frame, so that rounding cannot return to the current frame.
  for (let target = shown + 1.5 * step; next <= shown; target += 0.5 * step) {
    const last = target >= end;
    next = (await seek(video, Math.min(target, end))) ?? shown;
    if (last && next <= shown) return null;
  }
  while (next - shown > 1.25 * step) {
    const between = await seek(video, next - 0.25 * step);
    if (between === null || between <= shown || between >= next) break;
    next = between;
  }
  await seek(video, next + 0.25 * step);
  return next;
}

async function assumedFrame(video, target, end) {
  if (target >= end) return null;
  await seek(video, target);
  return target;
}

/**
 * Seek a time.
 *
 * @param {HTMLVideoElement} video
 * @param {number} target seconds
 * @returns {Promise<?number>} time of the frame that is shown then, in seconds; null if the shown frame did not change
 */
async function seek(video, target) {
  await visible();
  const reportsFrames = typeof video.requestVideoFrameCallback === "function";
  return new Promise((resolve, reject) => {
    let seeked = false;
    let handle = null;
    let frameTimer = null;
    const finish = (settle, value) => {
      clearTimeout(timer);
      clearTimeout(frameTimer);
      if (reportsFrames) video.cancelVideoFrameCallback(handle);
      video.removeEventListener("seeked", arrived);
      video.removeEventListener("error", fail);
      settle(value);
    };
    const fail = () => finish(reject, new VideoError("bad_video", video.error));
    const timer = setTimeout(fail, SEEK_TIMEOUT);
    let latest = null;
    const present = (_, data) => {
      latest = data.mediaTime;
      // A frame that was requested earlier may come before the seek ends. The right frame comes when the seek ends, or later.
      if (seeked) finish(resolve, latest);
      else handle = video.requestVideoFrameCallback(present);
    };
    const arrived = () => {
      seeked = true;
      if (!reportsFrames) finish(resolve, target);
      else if (latest !== null) finish(resolve, latest);
      else frameTimer = setTimeout(() => finish(resolve, null), FRAME_TIMEOUT);
    };
    if (reportsFrames) handle = video.requestVideoFrameCallback(present);
    video.addEventListener("seeked", arrived);
    video.addEventListener("error", fail);
    video.currentTime = target;
  });
}

/** Wait until the page is visible: browsers show no frames in a hidden page. */
function visible() {
  if (document.visibilityState === "visible") return Promise.resolve();
  return new Promise((resolve) => {
    const check = () => {
      if (document.visibilityState !== "visible") return;
      document.removeEventListener("visibilitychange", check);
      resolve();
    };
    document.addEventListener("visibilitychange", check);
  });
}

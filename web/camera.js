/** The camera: opening it, and its frames one by one. */

import { Recent } from "./timing.js";

/** Pictures wider than this are made smaller before landmarks are looked for. Holistic's own models take 256 pixels. */
const MAX_WIDTH = 960;

/** Codes of messages for what `getUserMedia` throws. */
const REFUSALS = {
  NotAllowedError: "no_permission",
  SecurityError: "no_permission",
  NotFoundError: "no_camera",
  OverconstrainedError: "no_camera",
  NotReadableError: "camera_busy",
  AbortError: "camera_busy",
};

/** A camera that cannot be had; `code` is that of a message. */
export class CameraError extends Error {
  constructor(code, cause) {
    super(code, { cause });
    this.code = code;
  }
}

export class Camera {
  #stream = null;
  #handle = null;
  #steps = new Recent(15);
  #before = null;

  /** @param {HTMLVideoElement} video in which the camera is shown */
  constructor(video) {
    this.video = video;
  }

  get on() {
    return this.#stream !== null;
  }

  get size() {
    return { width: this.video.videoWidth, height: this.video.videoHeight };
  }

  /** Milliseconds from one of the camera's frames to the next, those that were not seen included; null at first. */
  get interval() {
    return this.#steps.median;
  }

  /**
   * Turn it on.
   *
   * @param {() => void} ended called where the camera goes away by itself
   * @throws {CameraError}
   */
  async open(ended) {
    if (!navigator.mediaDevices?.getUserMedia) throw new CameraError("insecure_page");
    const wish = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 }, facingMode: "user" };
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({ audio: false, video: wish });
      this.video.srcObject = this.#stream;
      await this.video.play();
    } catch (error) {
      this.close();
      throw new CameraError(REFUSALS[error.name] ?? "camera_failed", error);
    }
    this.#stream.getVideoTracks()[0].addEventListener("ended", ended);
  }

  /**
   * Hand over every frame that the camera shows, with its time in milliseconds.
   *
   * @param {(time: number) => void} seen
   */
  watch(seen) {
    const next = (now, data) => {
      const time = data ? 1000 * data.mediaTime : now;
      this.#measure(time, data?.presentedFrames);
      this.#handle = this.#request(next);
      seen(time);
    };
    this.#before = null;
    this.#steps.clear();
    this.#handle = this.#request(next);
  }

  #request(next) {
    if (this.video.requestVideoFrameCallback) return this.video.requestVideoFrameCallback(next);
    let shown = this.video.currentTime;
    const look = (now) => {
      if (this.video.currentTime === shown) this.#handle = requestAnimationFrame(look);
      else {
        shown = this.video.currentTime;
        next(now, null);
      }
    };
    return requestAnimationFrame(look);
  }

  #measure(time, count) {
    if (this.#before && time > this.#before.time) {
      const frames = count === undefined ? 1 : count - this.#before.count;
      if (frames > 0) this.#steps.add((time - this.#before.time) / frames);
    }
    this.#before = { time, count };
  }

  /** Keep the frame that is shown now, to look at later. */
  picture() {
    const { width } = this.size;
    return createImageBitmap(this.video, width > MAX_WIDTH ? { resizeWidth: MAX_WIDTH, resizeQuality: "medium" } : {});
  }

  close() {
    if (this.#handle !== null) {
      if (this.video.cancelVideoFrameCallback) this.video.cancelVideoFrameCallback(this.#handle);
      else cancelAnimationFrame(this.#handle);
    }
    this.#handle = null;
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = null;
    this.video.srcObject = null;
  }
}

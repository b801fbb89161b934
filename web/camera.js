/** The camera: opens it and delivers its frames. */

import { Recent } from "./timing.js";

/** Wider pictures are scaled down to this many pixels. Holistic's models use 256 pixels. */
const MAX_WIDTH = 960;

/** Message codes by the name of the error that `getUserMedia` throws. */
const MESSAGE_CODES = {
  NotAllowedError: "no_permission",
  SecurityError: "no_permission",
  NotFoundError: "no_camera",
  OverconstrainedError: "no_camera",
  NotReadableError: "camera_busy",
  AbortError: "camera_busy",
};

/** A camera that cannot be opened; `code` is the code of a message. */
export class CameraError extends Error {
  constructor(code, cause) {
    super(code, { cause });
    this.code = code;
  }
}

export class Camera {
  #stream = null;
  #callback = null; // id of the requested frame callback
  #steps = new Recent(15);
  #previous = null; // time and frame counter of the previous frame

  /** @param {HTMLVideoElement} video the element that shows the camera's picture */
  constructor(video) {
    this.video = video;
  }

  get on() {
    return this.#stream !== null;
  }

  get size() {
    return { width: this.video.videoWidth, height: this.video.videoHeight };
  }

  /** Milliseconds between two frames of the camera, including frames that the page missed; null until measured. */
  get interval() {
    return this.#steps.median;
  }

  /**
   * Turn the camera on.
   *
   * @param {() => void} ended called if the camera is disconnected
   * @throws {CameraError}
   */
  async open(ended) {
    if (!navigator.mediaDevices?.getUserMedia) throw new CameraError("insecure_page");
    const constraints = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 }, facingMode: "user" };
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({ audio: false, video: constraints });
      this.video.srcObject = this.#stream;
      await this.video.play();
    } catch (error) {
      this.close();
      throw new CameraError(MESSAGE_CODES[error.name] ?? "camera_failed", error);
    }
    this.#stream.getVideoTracks()[0].addEventListener("ended", ended);
  }

  /**
   * Call a function for every frame that the camera shows.
   *
   * @param {(time: number) => void} onFrame gets the frame's time in milliseconds
   */
  watch(onFrame) {
    const next = (now, data) => {
      const time = data ? 1000 * data.mediaTime : now;
      this.#measure(time, data?.presentedFrames);
      this.#callback = this.#request(next);
      onFrame(time);
    };
    this.#previous = null;
    this.#steps.clear();
    this.#callback = this.#request(next);
  }

  #request(next) {
    if (this.video.requestVideoFrameCallback) return this.video.requestVideoFrameCallback(next);
    let shown = this.video.currentTime;
    const poll = (now) => {
      if (this.video.currentTime === shown) this.#callback = requestAnimationFrame(poll);
      else {
        shown = this.video.currentTime;
        next(now, null);
      }
    };
    return requestAnimationFrame(poll);
  }

  #measure(time, count) {
    if (this.#previous && time > this.#previous.time) {
      const frames = count === undefined ? 1 : count - this.#previous.count;
      if (frames > 0) this.#steps.add((time - this.#previous.time) / frames);
    }
    this.#previous = { time, count };
  }

  /** Copy the current frame. */
  picture() {
    const { width } = this.size;
    return createImageBitmap(this.video, width > MAX_WIDTH ? { resizeWidth: MAX_WIDTH, resizeQuality: "medium" } : {});
  }

  close() {
    if (this.#callback !== null) {
      if (this.video.cancelVideoFrameCallback) this.video.cancelVideoFrameCallback(this.#callback);
      else cancelAnimationFrame(this.#callback);
    }
    this.#callback = null;
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = null;
    this.video.srcObject = null;
  }
}

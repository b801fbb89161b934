/** Records the camera: keeps the pictures until their landmarks are found, so that no frame is skipped. */

import { Clip } from "./clip.js";

/** Longest recording in milliseconds; signs are shorter. */
export const LONGEST_MS = 12_000;

/** Free pictures that are not needed. */
export function release(pictures) {
  for (const { picture } of pictures) picture.then((image) => image.close(), () => {});
}

export class Recording {
  #queue;
  #results = [];
  #resetting = null;
  #working = null;
  #stopped = false;
  #error = null;

  /**
   * @param {import("./engine.js").Engine} engine
   * @param {{width: number, height: number}} size of the camera's picture
   * @param {object} options
   * @param {boolean} options.deferred find landmarks after the recording: if they take longer than a frame lasts, the
   *   engine has to be free for the preview of the latest frame meanwhile
   * @param {number} options.maxFrames
   * @param {Array<{picture: Promise<ImageBitmap>, time: number}>} [options.before] pictures from before the recording started
   * @param {(result: {frame: Array, time: number, ms: number}) => void} [options.onFrame] called with each frame's landmarks
   */
  constructor(engine, size, { deferred, maxFrames, before = [], onFrame = () => {} }) {
    Object.assign(this, { engine, size, deferred, maxFrames, onFrame });
    this.#queue = before;
    this.start = before[0]?.time;
  }

  /**
   * Add the current frame of the camera.
   *
   * @param {Promise<ImageBitmap>} picture
   * @param {number} time milliseconds
   * @returns {boolean} false if the recording is full
   */
  add(picture, time) {
    this.#queue.push({ picture, time });
    this.start ??= time;
    if (!this.deferred) this.#startWork();
    return time - this.start < LONGEST_MS && this.#results.length + this.#queue.length < this.maxFrames;
  }

  #startWork() {
    this.#working ??= this.#drain()
      .catch((error) => {
        this.#error = error; // thrown by `finish`
        this.drop();
      })
      .finally(() => {
        this.#working = null;
      });
  }

  async #drain(progress = () => {}, signal = null) {
    await (this.#resetting ??= this.engine.reset()); // the engine must not smooth over frames of the preview
    while (this.#queue.length && !this.#stopped && !signal?.aborted) {
      const { picture, time } = this.#queue.shift();
      const image = await picture;
      const { frame, ms } = await this.engine.landmarks(image, time);
      const result = { frame, time, ms };
      this.#results.push(result);
      this.onFrame(result);
      progress(this.#results.length, this.#results.length + this.#queue.length);
      await new Promise((resolve) => setTimeout(resolve)); // lets the page draw and handle events
    }
  }

  /** Discard the frames whose landmarks have not been found. */
  drop() {
    this.#stopped = true;
    release(this.#queue.splice(0));
  }

  /**
   * Find the landmarks of the remaining frames, and return the clip.
   *
   * @param {(done: number, total: number) => void} progress
   * @param {AbortSignal} signal discards the remaining frames
   * @returns {Promise<Clip>}
   * @throws {import("./engine.js").EngineError}
   */
  async finish(progress, signal) {
    await this.#working;
    if (this.#error) throw this.#error;
    await this.#drain(progress, signal);
    this.drop();
    return Clip.of(this.#results, this.size, "camera");
  }
}

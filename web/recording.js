/** A recording of the camera: its pictures are kept until their landmarks are found, so that none is left out. */

import { Clip } from "./clip.js";

/** A sign is shorter than this. Milliseconds. */
export const LONGEST_MS = 12_000;

/** Close pictures that are not needed. */
export function release(kept) {
  for (const { picture } of kept) picture.then((image) => image.close(), () => {});
}

export class Recording {
  #queue;
  #found = [];
  #fresh = null;
  #working = null;
  #stopped = false;
  #error = null;

  /**
   * @param {import("./engine.js").Engine} engine
   * @param {{width: number, height: number}} size of the camera's picture
   * @param {object} how
   * @param {boolean} how.hold look for landmarks only once the recording has ended: where they take longer than a frame
   *   lasts, the engine is left to whoever looks at the newest frame
   * @param {number} how.most frames
   * @param {Array<{picture: Promise<ImageBitmap>, time: number}>} [how.before] pictures from before it began
   * @param {(found: {frame: Array, time: number, ms: number}) => void} [how.seen] called with each frame
   */
  constructor(engine, size, { hold, most, before = [], seen = () => {} }) {
    Object.assign(this, { engine, size, hold, most, seen });
    this.#queue = before;
    this.begun = before[0]?.time;
  }

  /**
   * Take the frame that the camera shows now.
   *
   * @param {Promise<ImageBitmap>} picture
   * @param {number} time milliseconds
   * @returns {boolean} false where the recording is full
   */
  add(picture, time) {
    this.#queue.push({ picture, time });
    this.begun ??= time;
    if (!this.hold) this.#work();
    return time - this.begun < LONGEST_MS && this.#found.length + this.#queue.length < this.most;
  }

  #work() {
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
    await (this.#fresh ??= this.engine.reset()); // nothing is known of the frames that were looked at meanwhile
    while (this.#queue.length && !this.#stopped && !signal?.aborted) {
      const { picture, time } = this.#queue.shift();
      const image = await picture;
      const { frame, ms } = await this.engine.landmarks(image, time);
      const found = { frame, time, ms };
      this.#found.push(found);
      this.seen(found);
      progress(this.#found.length, this.#found.length + this.#queue.length);
      await new Promise((resolve) => setTimeout(resolve)); // lets the page draw and listen
    }
  }

  /** Leave out the frames that wait. */
  drop() {
    this.#stopped = true;
    release(this.#queue.splice(0));
  }

  /**
   * Find the landmarks of all frames that wait, and make a clip of all.
   *
   * @param {(done: number, total: number) => void} progress
   * @param {AbortSignal} signal leaves out what is not yet done
   * @returns {Promise<Clip>}
   * @throws {import("./engine.js").EngineError}
   */
  async finish(progress, signal) {
    await this.#working;
    if (this.#error) throw this.#error;
    await this.#drain(progress, signal);
    this.drop();
    return Clip.of(this.#found, this.size, "camera");
  }
}

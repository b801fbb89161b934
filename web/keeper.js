/** Keeps the page's engine: opens it with the first picture, and opens another one if the inference setting changes. */

import { Engine } from "./engine.js";
import { Recent } from "./timing.js";

export class Keeper {
  #opening = null;
  #durations = new Recent(9);

  /** @type {?Engine} */
  engine = null;
  /** The inference setting: `auto`, `gpu` or `cpu`. */
  preference = "auto";

  /** @param {() => void} changed called when the engine or its state changes */
  constructor(changed) {
    this.changed = changed;
  }

  /** Median milliseconds of the last frames, null before the first frame. */
  get frameTime() {
    return this.#durations.median;
  }

  /** Record the milliseconds that a frame took. */
  addFrameTime(ms) {
    this.#durations.add(ms);
  }

  /**
   * Return the engine; open it if necessary.
   *
   * @param {CanvasImageSource} image for the engine's warm-up
   * @returns {Promise<Engine>}
   * @throws {import("./engine.js").EngineError}
   */
  ready(image) {
    if (this.engine) return Promise.resolve(this.engine);
    this.#opening ??= this.#open(image).finally(() => {
      this.#opening = null;
    });
    return this.#opening;
  }

  async #open(image) {
    this.#setState("loading");
    for (;;) {
      const { preference } = this;
      const engine = await Engine.open(preference, image).catch((error) => {
        this.#setState("failed");
        throw error;
      });
      if (preference === this.preference) {
        this.engine = engine;
        this.#setState(engine.mode);
        return engine;
      }
      engine.close(); // the setting was changed meanwhile
    }
  }

  /** Close the engine; the next picture opens another one. */
  close(state = "none") {
    this.engine?.close();
    this.engine = null;
    this.#durations.clear();
    this.#setState(state);
  }

  #setState(state) {
    document.body.dataset.engine = state;
    this.changed();
  }
}

/** The one engine that the page keeps: opened with the first picture, and anew where another inference is wished. */

import { Engine } from "./engine.js";
import { Recent } from "./timing.js";

export class Keeper {
  #opening = null;
  #costs = new Recent(9);

  /** @type {?Engine} */
  engine = null;
  /** Which inference is wished: `auto`, `gpu` or `cpu`. */
  wish = "auto";

  /** @param {() => void} changed called where the engine is another, or its state is */
  constructor(changed) {
    this.changed = changed;
  }

  /** Milliseconds that a frame takes now, null before the first. */
  get cost() {
    return this.#costs.median;
  }

  /** Take note of what a frame took. */
  took(ms) {
    this.#costs.add(ms);
  }

  /**
   * The engine.
   *
   * @param {CanvasImageSource} image to warm it up with, where it is not yet open
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
    this.#mark("loading");
    for (;;) {
      const { wish } = this;
      const engine = await Engine.open(wish, image).catch((error) => {
        this.#mark("failed");
        throw error;
      });
      if (wish === this.wish) {
        this.engine = engine;
        this.#mark(engine.mode);
        return engine;
      }
      engine.close(); // another was wished meanwhile
    }
  }

  /** Let go of the engine, so that the next picture opens another. */
  close(mark = "none") {
    this.engine?.close();
    this.engine = null;
    this.#costs.clear();
    this.#mark(mark);
  }

  #mark(mark) {
    document.body.dataset.engine = mark;
    this.changed();
  }
}

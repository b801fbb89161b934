/**
 * MediaPipe Holistic: pictures in, frames of 543 landmarks out.
 *
 * It runs in a worker (engine-worker.js), which loads mp/ when the first engine is opened, and nothing before.
 */

import { frameOfResults } from "./layout.js";

/** A GPU that is at least this fast keeps up with a camera of 10 frames a second, and the CPU is not tried. Milliseconds. */
const FAST_ENOUGH = 100;

/** Names of renderers that are no GPU: Chromium's and Mesa's software, Windows' fallback. */
const SOFTWARE = /swiftshader|llvmpipe|softpipe|software|basic render/i;

/** An engine that cannot be had; `code` is that of a message. */
export class EngineError extends Error {
  constructor(code, cause) {
    super(code, { cause });
    this.code = code;
  }
}

/**
 * What this browser lacks, asked before Holistic is made: its own errors say nothing.
 *
 * @returns {?string} code of a message, null where all is there
 */
export function lacking() {
  if (typeof WebAssembly !== "object") return "no_wasm";
  return renderer() === null || typeof OffscreenCanvas !== "function" ? "no_webgl2" : null; // its worker draws on one
}

/** The name of what draws WebGL2, "" where the browser does not tell, null without WebGL2. */
function renderer() {
  const gl = document.createElement("canvas").getContext("webgl2");
  if (!gl) return null;
  const info = gl.getExtension("WEBGL_debug_renderer_info");
  const name = String(gl.getParameter(info ? info.UNMASKED_RENDERER_WEBGL : gl.RENDERER) ?? "");
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return name;
}

export class Engine {
  #worker = new Worker(new URL("engine-worker.js", document.baseURI));
  #last = -1;
  #turn = Promise.resolve();
  #fail = () => {};
  #closed = false;

  /** Which inference runs (`gpu` or `cpu`), milliseconds of the timed frame, and why it runs (key of a string). */
  mode = null;
  timed = null;
  why = null;

  /**
   * Load Holistic and choose where it computes.
   *
   * @param {"auto"|"gpu"|"cpu"} wish auto times a frame on the GPU and, where that is slow, one on the CPU
   * @param {CanvasImageSource} image the first frame: sent once to warm up, once more to be timed
   * @returns {Promise<Engine>}
   * @throws {EngineError} where the browser lacks something, or Holistic fails
   */
  static async open(wish, image) {
    const lack = lacking();
    if (lack) throw new EngineError(lack);
    const software = wish === "auto" && SOFTWARE.test(renderer());
    let gpu = null;
    if (wish === "gpu" || (wish === "auto" && !software)) {
      try {
        gpu = await Engine.#make("gpu", image, wish === "auto" ? "engine.measured" : "engine.wished");
        if (wish === "gpu" || gpu.timed <= FAST_ENOUGH) return gpu;
      } catch (error) {
        if (wish === "gpu") throw error;
      }
    }
    try {
      const why = software ? "engine.software" : wish === "auto" ? "engine.measured" : "engine.wished";
      const cpu = await Engine.#make("cpu", image, why);
      if (!gpu || cpu.timed < gpu.timed) {
        gpu?.close();
        return cpu;
      }
      cpu.close();
    } catch (error) {
      if (!gpu) throw error;
    }
    return gpu;
  }

  static async #make(mode, image, why) {
    const engine = new Engine();
    engine.mode = mode;
    engine.why = why;
    try {
      await engine.#call("open", { cpu: mode === "cpu" });
      await engine.landmarks(image, 0);
      engine.timed = (await engine.landmarks(image, 40)).ms;
      engine.reset();
      return engine;
    } catch (error) {
      engine.close();
      throw error instanceof EngineError ? error : new EngineError("engine_failed", error);
    }
  }

  /**
   * Find the landmarks of one frame. Frames are taken one after the other, in the order of the calls.
   *
   * @param {ImageBitmapSource} image not mirrored; what it shows now is taken, and an ImageBitmap is given away
   * @param {number} time of the frame in milliseconds; the smoothing over time goes by it
   * @returns {Promise<{frame: Array<?[number, number]>, ms: number}>}
   */
  landmarks(image, time) {
    const picture = image instanceof ImageBitmap ? Promise.resolve(image) : createImageBitmap(image);
    picture.catch(() => {}); // thrown when its turn comes
    const turn = this.#turn.then(() => this.#landmarks(picture, time));
    this.#turn = turn.catch(() => {});
    return turn;
  }

  async #landmarks(picture, time) {
    const image = await picture.catch((error) => {
      throw new EngineError("engine_failed", error);
    });
    this.#last = Math.max(time, this.#last + 1); // Holistic wants times that rise
    const { results, ms } = await this.#call("landmarks", { image, time: this.#last }, [image]);
    return { frame: frameOfResults(results), ms };
  }

  /** Let the worker do something; the turns see to it that it does one thing at a time. */
  #call(act, values = {}, transfer = []) {
    return new Promise((resolve, reject) => {
      const fail = (error) => reject(new EngineError(error === "no_holistic" ? error : "engine_failed", error));
      if (this.#closed) fail("closed");
      this.#worker.onmessage = ({ data: { value, error } }) => (error ? fail(error) : resolve(value));
      this.#worker.onerror = fail;
      this.#fail = fail;
      this.#worker.postMessage({ act, ...values }, transfer);
    });
  }

  /** Forget the person: what follows is another clip. The next frame is slow, because Holistic begins anew. */
  reset() {
    this.#turn = this.#turn
      .then(() => this.#call("reset"))
      .catch(() => {})
      .then(() => {
        this.#last = -1;
      });
    return this.#turn;
  }

  close() {
    this.#closed = true;
    this.#worker.terminate();
    this.#fail("closed"); // of what is under way
  }
}

/**
 * MediaPipe Holistic: finds the 543 landmarks of a picture.
 *
 * It runs in a worker (engine-worker.js), which loads mp/ when the first engine is opened.
 */

import { frameOfResults } from "./layout.js";

/** Milliseconds per frame at which a GPU keeps up with a camera of 10 frames per second, so that the CPU need not be tried. */
const FAST_ENOUGH = 100;

/** Names of software renderers: Chromium's, Mesa's and the fallback of Windows. */
const SOFTWARE = /swiftshader|llvmpipe|softpipe|software|basic render/i;

/** An engine that cannot be opened or has failed; `code` is the code of a message. */
export class EngineError extends Error {
  constructor(code, cause) {
    super(code, { cause });
    this.code = code;
  }
}

/**
 * Check for what Holistic needs, because Holistic's error messages do not name it.
 *
 * @returns {?string} message code of the missing feature, null if nothing is missing
 */
export function missingFeature() {
  if (typeof WebAssembly !== "object") return "no_wasm";
  return rendererName() === null || typeof OffscreenCanvas !== "function" ? "no_webgl2" : null; // which the worker needs
}

/** Return the name of the WebGL2 renderer, "" if the browser hides it, null without WebGL2. */
function rendererName() {
  const gl = document.createElement("canvas").getContext("webgl2");
  if (!gl) return null;
  const info = gl.getExtension("WEBGL_debug_renderer_info");
  const name = String(gl.getParameter(info ? info.UNMASKED_RENDERER_WEBGL : gl.RENDERER) ?? "");
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return name;
}

export class Engine {
  #worker = new Worker(new URL("engine-worker.js", document.baseURI));
  #lastTime = -1;
  #queue = Promise.resolve();
  #fail = () => {};
  #closed = false;

  /** The inference that runs (`gpu` or `cpu`), the milliseconds of the timed frame, and the reason (key of a string). */
  mode = null;
  timed = null;
  reason = null;

  /**
   * Load Holistic and choose the GPU or the CPU.
   *
   * @param {"auto"|"gpu"|"cpu"} preference `auto` times a frame on the GPU and, if it is slow, on the CPU, and takes the faster
   * @param {CanvasImageSource} image the first frame: processed once to warm up and once to be timed
   * @returns {Promise<Engine>}
   * @throws {EngineError} if the browser lacks a feature, or Holistic fails
   */
  static async open(preference, image) {
    const missing = missingFeature();
    if (missing) throw new EngineError(missing);
    const software = preference === "auto" && SOFTWARE.test(rendererName());
    let gpu = null;
    if (preference === "gpu" || (preference === "auto" && !software)) {
      try {
        gpu = await Engine.#create("gpu", image, preference === "auto" ? "engine.measured" : "engine.wished");
        if (preference === "gpu" || gpu.timed <= FAST_ENOUGH) return gpu;
      } catch (error) {
        if (preference === "gpu") throw error;
      }
    }
    try {
      const reason = software ? "engine.software" : preference === "auto" ? "engine.measured" : "engine.wished";
      const cpu = await Engine.#create("cpu", image, reason);
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

  static async #create(mode, image, reason) {
    const engine = new Engine();
    engine.mode = mode;
    engine.reason = reason;
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
   * Find the landmarks of one frame. Frames are processed one after the other, in the order of the calls.
   *
   * @param {ImageBitmapSource} image not mirrored; its current content is used, and an ImageBitmap is transferred to the worker
   * @param {number} time of the frame in milliseconds, which Holistic uses to smooth over time
   * @returns {Promise<{frame: Array<?[number, number]>, ms: number}>}
   */
  landmarks(image, time) {
    const picture = image instanceof ImageBitmap ? Promise.resolve(image) : createImageBitmap(image);
    picture.catch(() => {}); // reported when the frame is processed
    const result = this.#queue.then(() => this.#landmarks(picture, time));
    this.#queue = result.catch(() => {});
    return result;
  }

  async #landmarks(picture, time) {
    const image = await picture.catch((error) => {
      throw new EngineError("engine_failed", error);
    });
    this.#lastTime = Math.max(time, this.#lastTime + 1); // Holistic requires increasing times
    const { results, ms } = await this.#call("landmarks", { image, time: this.#lastTime }, [image]);
    return { frame: frameOfResults(results), ms };
  }

  /** Send a message to the worker and wait for its reply. `#queue` ensures that only one message is pending. */
  #call(action, values = {}, transfer = []) {
    return new Promise((resolve, reject) => {
      const fail = (error) => reject(new EngineError(error === "no_holistic" ? error : "engine_failed", error));
      if (this.#closed) fail("closed");
      this.#worker.onmessage = ({ data: { value, error } }) => (error ? fail(error) : resolve(value));
      this.#worker.onerror = fail;
      this.#fail = fail;
      this.#worker.postMessage({ action, ...values }, transfer);
    });
  }

  /** Forget the person, before another clip. The next frame is slow, because Holistic searches for the person again. */
  reset() {
    this.#queue = this.#queue
      .then(() => this.#call("reset"))
      .catch(() => {})
      .then(() => {
        this.#lastTime = -1;
      });
    return this.#queue;
  }

  close() {
    this.#closed = true;
    this.#worker.terminate();
    this.#fail("closed"); // rejects the pending call
  }
}

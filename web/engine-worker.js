/**
 * MediaPipe Holistic in a worker: the page goes on seeing the camera's frames while landmarks are computed.
 *
 * A classic script, because Holistic loads its parts as such. engine.js sends one message at a time.
 */

const MP = new URL("mp/", location.href).href;
const PARTS = ["poseLandmarks", "faceLandmarks", "leftHandLandmarks", "rightHandLandmarks"];

// Holistic's own branch for workers gets WebGL 1 and then forgets the context. It takes the branch for pages where it finds
// a window and the little of a document that it uses: canvases, and scripts that are loaded once they are in the body.
self.window = self;
self.document = {
  createElement: (tag) => (tag === "canvas" ? new OffscreenCanvas(1, 1) : new Script()),
  body: { appendChild: (script) => script.load() },
};

class Script extends EventTarget {
  setAttribute(name, value) {
    this[name] = value;
  }

  load() {
    importScripts(this.src);
    this.dispatchEvent(new Event("load"));
  }
}

let holistic = null;
let results = {};

const acts = {
  async open({ cpu }) {
    holistic = new self.Holistic({ locateFile: (file) => MP + file });
    holistic.setOptions({
      modelComplexity: 1,
      smoothLandmarks: true,
      minDetectionConfidence: 0.5,
      minTrackingConfidence: 0.5,
      selfieMode: false, // never mirrored: "left" stays the signer's left
      useCpuInference: cpu, // undocumented; without a GPU it is ten times as fast
    });
    holistic.onResults((next) => {
      results = next;
      next.image?.close?.(); // a copy of the picture, which nobody looks at
    });
    await holistic.initialize();
  },

  async landmarks({ image, time }) {
    results = {};
    const started = performance.now();
    try {
      await holistic.send({ image }, time);
    } finally {
      image.close();
    }
    return { results: Object.fromEntries(PARTS.map((part) => [part, results[part]])), ms: performance.now() - started };
  },

  reset() {
    holistic.reset();
  },
};

self.onmessage = async ({ data: { act, ...values } }) => {
  try {
    self.postMessage({ value: await acts[act](values) });
  } catch (error) {
    self.postMessage({ error: error.message ?? String(error) });
  }
};

try {
  importScripts(`${MP}holistic.js`);
} catch {
  acts.open = async () => Promise.reject(new Error("no_holistic"));
}

/**
 * MediaPipe Holistic in a worker, so that the page can take the camera's next frames while landmarks are computed.
 *
 * A classic script, because Holistic loads its parts with importScripts. engine.js sends one message at a time.
 */

const MP = new URL("mp/", location.href).href;
const PARTS = ["poseLandmarks", "faceLandmarks", "leftHandLandmarks", "rightHandLandmarks"];

// Holistic's code for workers gets a WebGL 1 context and then loses it. Holistic runs its code for pages if it finds a window
// and the parts of a document that it uses: canvases, and scripts that load when they are added to the body.
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

const actions = {
  async open({ cpu }) {
    holistic = new self.Holistic({ locateFile: (file) => MP + file });
    holistic.setOptions({
      modelComplexity: 1,
      smoothLandmarks: true,
      minDetectionConfidence: 0.5,
      minTrackingConfidence: 0.5,
      selfieMode: false, // never mirrored: "left" stays the signer's left
      useCpuInference: cpu, // undocumented; ten times as fast without a GPU
    });
    holistic.onResults((next) => {
      results = next;
      next.image?.close?.(); // frees a copy of the picture, which is not used
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

self.onmessage = async ({ data: { action, ...values } }) => {
  try {
    self.postMessage({ value: await actions[action](values) });
  } catch (error) {
    self.postMessage({ error: error.message ?? String(error) });
  }
};

try {
  importScripts(`${MP}holistic.js`);
} catch {
  actions.open = async () => Promise.reject(new Error("no_holistic"));
}

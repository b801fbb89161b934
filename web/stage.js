/** The dark area that shows the camera or a video, with the skeleton over it. */

import { drawFrame } from "./draw.js";
import { $ } from "./page.js";

const LONG_SIDE = 720; // pixels of the skeleton's canvas, so that lines are smooth over small pictures too

/** Give a canvas the aspect ratio of a picture. */
export function fit(canvas, { width, height }) {
  const scale = LONG_SIDE / Math.max(width, height);
  Object.assign(canvas, { width: Math.round(width * scale), height: Math.round(height * scale) });
}

export class Stage {
  #context = $("overlay").getContext("2d");
  video = $("video");
  aspect = 1;

  /** @param {boolean} mirrored only the display is mirrored; landmarks are found in the original picture */
  show({ width, height }, mirrored) {
    this.aspect = width / height;
    fit($("overlay"), { width, height });
    $("stage").dataset.mirrored = String(mirrored);
    $("picture").style.aspectRatio = `${width} / ${height}`;
    $("stage").classList.add("shown");
  }

  hide() {
    this.draw(null);
    $("stage").classList.remove("shown");
  }

  /** Replace the skeleton; null clears it. */
  draw(frame) {
    const { width, height } = this.#context.canvas;
    this.#context.clearRect(0, 0, width, height);
    drawFrame(this.#context, frame);
  }
}

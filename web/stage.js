/** The dark field in which the camera or a video is shown, with the skeleton over it. */

import { drawFrame } from "./draw.js";
import { $ } from "./page.js";

const FINE = 720; // pixels of the skeleton's canvas on its longer side, so that small pictures have no coarse lines

/** Give a canvas the shape of a picture. */
export function fit(canvas, { width, height }) {
  const scale = FINE / Math.max(width, height);
  Object.assign(canvas, { width: Math.round(width * scale), height: Math.round(height * scale) });
}

export class Stage {
  #context = $("overlay").getContext("2d");
  video = $("video");
  aspect = 1;

  /** @param {boolean} mirrored what is shown, and nothing else: landmarks are found in the picture as it is */
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

  /** Draw a frame's skeleton in the place of the one before. */
  draw(frame) {
    const { width, height } = this.#context.canvas;
    this.#context.clearRect(0, 0, width, height);
    drawFrame(this.#context, frame);
  }
}

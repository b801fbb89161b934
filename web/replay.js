/** The last clip: plays its skeleton, shows single frames, and offers downloads. */

import { complete, compact } from "./clip.js";
import { drawFrame } from "./draw.js";
import { $, prefersReducedMotion, download, onLanguage, t } from "./page.js";
import { fit } from "./stage.js";

export class Replay {
  #clip = null;
  #name = null; // of a file that only the server can read
  #playing = null;
  #context = $("replay").getContext("2d");

  /** @param {() => object} layout returns the model's layout */
  constructor(layout) {
    this.layout = layout;
    $("replay-play").addEventListener("click", () => (this.#playing ? this.pause() : this.play()));
    $("replay-slider").addEventListener("input", () => {
      this.pause();
      this.#draw();
    });
    $("download-compact").addEventListener("click", () => this.#save(compact(this.#clip, this.layout())));
    $("download-all").addEventListener("click", () => this.#save(complete(this.#clip.uncut)));
    onLanguage(() => this.#write());
  }

  get clip() {
    return this.#clip;
  }

  show(clip) {
    this.pause();
    this.#clip = clip;
    this.#name = null;
    Object.assign($("clip").dataset, { frames: clip.frames.length, source: clip.source });
    fit($("replay"), clip);
    Object.assign($("replay-slider"), { max: Math.max(0, clip.frames.length - 1), value: 0 });
    this.#write();
    this.#draw();
    if (!prefersReducedMotion()) this.play();
  }

  /** Show the name of a file that was sent but cannot be shown. */
  showFile(name) {
    this.pause();
    this.#clip = null;
    this.#name = name;
    Object.assign($("clip").dataset, { frames: 0, source: "file" });
    this.#write();
  }

  play() {
    const slider = $("replay-slider");
    if (!this.#clip?.frames.length) return;
    if (slider.valueAsNumber >= this.#clip.frames.length - 1) slider.value = 0;
    const { times } = this.#clip;
    const start = performance.now() - (times[slider.valueAsNumber] - times[0]);
    const step = (now) => {
      const at = times.findLastIndex((time) => time - times[0] <= now - start);
      slider.value = Math.max(0, at);
      this.#draw();
      if (at >= times.length - 1) this.pause();
      else this.#playing = requestAnimationFrame(step);
    };
    this.#playing = requestAnimationFrame(step);
    this.#write();
  }

  pause() {
    cancelAnimationFrame(this.#playing);
    this.#playing = null;
    this.#write();
  }

  #draw() {
    const { width, height } = this.#context.canvas;
    this.#context.clearRect(0, 0, width, height);
    drawFrame(this.#context, this.#clip.frames[$("replay-slider").valueAsNumber] ?? null);
    this.#position();
  }

  #position() {
    const values = { i: $("replay-slider").valueAsNumber + 1, n: this.#clip?.frames.length ?? 0 };
    $("replay-position").textContent = `${values.i} / ${values.n}`;
    $("replay-slider").setAttribute("aria-valuetext", t("clip.position", values));
  }

  #write() {
    $("clip-shown").hidden = !this.#clip;
    $("clip-empty").hidden = Boolean(this.#clip);
    $("clip-empty").textContent = this.#name ? t("clip.asfile", { name: this.#name }) : t("clip.empty");
    $("replay-play").textContent = t(this.#playing ? "clip.pause" : "clip.play");
    $("download-compact").textContent = t("clip.download", { layout: this.layout().name });
    if (this.#clip) this.#position();
    const cutFrames = this.#clip ? this.#clip.uncut.frames.length - this.#clip.frames.length : 0;
    $("clip-rest").textContent = cutFrames ? t("clip.rest", { n: cutFrames, all: this.#clip.uncut.frames.length }) : "";
    $("clip-rest").hidden = !cutFrames;
  }

  #save(body) {
    const timestamp = new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, "").replace("T", "-");
    download(`${JSON.stringify(body)}\n`, `clip-${timestamp}${body.layout ? "" : "-all"}.json`);
  }
}

/** The last clip: its skeleton, played and looked at frame by frame, and its downloads. */

import { complete, compact } from "./clip.js";
import { drawFrame } from "./draw.js";
import { $, calm, download, inWords, t } from "./page.js";
import { fit } from "./stage.js";

export class Replay {
  #clip = null;
  #name = null; // of a file that only the server reads
  #playing = null;
  #context = $("replay").getContext("2d");

  /** @param {() => object} layout the model's, asked when it is needed */
  constructor(layout) {
    this.layout = layout;
    $("replay-play").addEventListener("click", () => (this.#playing ? this.pause() : this.play()));
    $("replay-slider").addEventListener("input", () => {
      this.pause();
      this.#draw();
    });
    $("download-compact").addEventListener("click", () => this.#save(compact(this.#clip, this.layout())));
    $("download-all").addEventListener("click", () => this.#save(complete(this.#clip.whole)));
    inWords(() => this.#say());
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
    this.#say();
    this.#draw();
    if (!calm()) this.play();
  }

  /** Say that a file was asked about which cannot be shown. */
  showFile(name) {
    this.pause();
    this.#clip = null;
    this.#name = name;
    Object.assign($("clip").dataset, { frames: 0, source: "file" });
    this.#say();
  }

  play() {
    const slider = $("replay-slider");
    if (!this.#clip?.frames.length) return;
    if (slider.valueAsNumber >= this.#clip.frames.length - 1) slider.value = 0;
    const { times } = this.#clip;
    const begun = performance.now() - (times[slider.valueAsNumber] - times[0]);
    const step = (now) => {
      const at = times.findLastIndex((time) => time - times[0] <= now - begun);
      slider.value = Math.max(0, at);
      this.#draw();
      if (at >= times.length - 1) this.pause();
      else this.#playing = requestAnimationFrame(step);
    };
    this.#playing = requestAnimationFrame(step);
    this.#say();
  }

  pause() {
    cancelAnimationFrame(this.#playing);
    this.#playing = null;
    this.#say();
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

  #say() {
    $("clip-shown").hidden = !this.#clip;
    $("clip-empty").hidden = Boolean(this.#clip);
    $("clip-empty").textContent = this.#name ? t("clip.asfile", { name: this.#name }) : t("clip.empty");
    $("replay-play").textContent = t(this.#playing ? "clip.pause" : "clip.play");
    $("download-compact").textContent = t("clip.download", { layout: this.layout().name });
    if (this.#clip) this.#position();
    const left = this.#clip ? this.#clip.whole.frames.length - this.#clip.frames.length : 0;
    $("clip-rest").textContent = left ? t("clip.rest", { n: left, all: this.#clip.whole.frames.length }) : "";
    $("clip-rest").hidden = !left;
  }

  #save(body) {
    const moment = new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, "").replace("T", "-");
    download(`${JSON.stringify(body)}\n`, `clip-${moment}${body.layout ? "" : "-all"}.json`);
  }
}

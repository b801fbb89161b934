/** What goes on before the camera: preview, count-down, recording, reading of videos. It ends in clips. */

import { Camera, CameraError } from "./camera.js";
import { EngineError, lacking } from "./engine.js";
import { HandWatch, depth, withoutRest } from "./hands.js";
import { Keeper } from "./keeper.js";
import { $, setState, state, tell, untell } from "./page.js";
import { readVideo } from "./reading.js";
import { LONGEST_MS, Recording, release } from "./recording.js";
import { Stage } from "./stage.js";
import { VideoError } from "./video.js";

const COUNT = 3;
const BEFORE_MS = 2500; // of pictures that are kept: a rise of hands is noticed three looks later, 0.7 s each where the CPU is slow

export class Session extends EventTarget {
  #camera = new Camera($("video"));
  #stage = new Stage();
  #starting = null;
  #keeper = new Keeper(() => this.#emit("engine"));
  #recording = null;
  #busy = false;
  #before = [];
  #hands = new HandWatch();
  #task = null; // AbortController of what can be cancelled
  #timer = null;
  #purpose = "ask";

  /** Set from outside: whether to record by itself, and how many frames the model takes. */
  auto = false;
  most = 512;

  constructor() {
    super();
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "hidden" && ["countdown", "recording"].includes(state())) this.#hide();
    });
  }

  get camera() {
    return this.#camera.on;
  }

  get engine() {
    return this.#keeper.engine;
  }

  get inference() {
    return this.#keeper.wish;
  }

  set inference(wish) {
    this.#keeper.wish = wish;
    this.turnOff();
    this.#keeper.close();
  }

  /** Whether landmarks take longer than a frame of the camera lasts. */
  get slow() {
    return (this.cost ?? 0) > 0.9 * (this.#camera.interval ?? Infinity);
  }

  /** Milliseconds that a frame's landmarks take now. */
  get cost() {
    return this.#keeper.cost;
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #fail(error, values = {}) {
    if (!(error instanceof CameraError || error instanceof EngineError || error instanceof VideoError)) throw error;
    if (error.code === "engine_failed") this.#keeper.close("failed");
    tell("error", error.code, { ...values, ...error.values });
  }

  // Camera

  /** Turn the camera on; tells whether it is. */
  turnOn() {
    if (this.camera && !this.#starting) return Promise.resolve(true);
    this.#starting ??= this.#turnOn().finally(() => {
      this.#starting = null;
    });
    return this.#starting;
  }

  #lacks() {
    const lack = lacking();
    if (lack) tell("error", lack);
    return lack !== null;
  }

  async #turnOn() {
    untell();
    if (this.#lacks()) return false;
    try {
      await this.#camera.open(() => {
        this.turnOff();
        tell("error", "camera_ended");
      });
      this.#stage.show(this.#camera.size, true);
      setState("live");
      await this.#keeper.ready(this.#stage.video);
    } catch (error) {
      const left = error instanceof EngineError && !this.camera; // without pictures no engine opens
      this.turnOff();
      if (left) this.#keeper.close();
      else this.#fail(error);
      return false;
    }
    if (!this.camera) return false; // turned off meanwhile
    this.engine.reset(); // nothing is known of who was here before
    this.#hands.reset();
    this.#camera.watch((time) => this.#seen(time));
    return true;
  }

  turnOff() {
    this.cancel();
    this.#camera.close();
    release(this.#before.splice(0));
    this.#stage.hide();
    if (["live", "countdown", "recording"].includes(state())) setState("idle");
  }

  /** Give a recording up: browsers show no frames of a camera in a page that is not seen. */
  #hide() {
    this.cancel();
    this.#recording = null;
    setState("live");
    this.engine.reset();
    tell("warning", "page_hidden");
  }

  #seen(time) {
    if (state() === "recording") {
      if (!this.#recording.add(this.#camera.picture(), time)) this.#full();
      else if (this.#recording.alone && this.#recording.hold) this.#glance(time);
      return;
    }
    const keep = this.auto && state() === "live";
    if (keep) this.#before.push({ picture: this.#camera.picture(), time });
    const late = this.#before.findIndex((one) => one.time > time - BEFORE_MS);
    release(this.#before.splice(0, keep ? late : Infinity));
    if (state() !== "reading") this.#glance(time);
  }

  /** Look at the newest frame, unless the one before still takes its time. */
  #glance(time) {
    if (this.#busy) return;
    this.#busy = true;
    this.#preview(time)
      .catch((error) => {
        this.turnOff();
        this.#fail(error);
      })
      .finally(() => {
        this.#busy = false;
      });
  }

  async #preview(time) {
    const { frame, ms } = await this.engine.landmarks(this.#stage.video, time);
    if (this.camera) this.#look({ frame, time, ms });
  }

  /** Show a frame's skeleton, and follow the hands. */
  #look({ frame, time, ms }) {
    this.#keeper.took(ms);
    this.#stage.draw(frame);
    this.#emit("frame");
    const recording = state() === "recording" && this.#recording.alone && this.#recording.hold;
    if (!recording && !(this.auto && state() === "live")) return;
    const sign = this.#hands.see(depth(frame, this.#stage.aspect), time);
    if (sign?.event === "start" && !recording) this.#begin(sign.from);
    if (sign?.event === "end" && recording) this.#end();
  }

  // Recording

  /** The record button: begin with a count-down, cancel that, or end the recording. */
  async record(purpose = "ask") {
    if (state() === "countdown") {
      clearTimeout(this.#timer);
      setState("live");
      return;
    }
    if (state() === "recording") {
      this.#end();
      return;
    }
    if (!["idle", "live"].includes(state())) return;
    untell();
    if (!(await this.turnOn()) || state() !== "live") return;
    this.#purpose = purpose;
    this.#count(COUNT);
  }

  #count(n) {
    if (n === 0) {
      this.#begin();
      return;
    }
    setState("countdown");
    this.#emit("count", n);
    this.#timer = setTimeout(() => this.#count(n - 1), 1000);
  }

  /** Begin to record; `from` is the moment a sign began that was noticed by itself. */
  #begin(from = null) {
    const alone = from !== null;
    if (alone) {
      untell();
      this.#purpose = "ask";
    }
    release(this.#before.splice(0, alone ? this.#before.findIndex((one) => one.time >= from) : Infinity));
    const before = this.#before.splice(0);
    const watch = alone ? new HandWatch("down") : null;
    const seen = (found) => {
      this.#look(found);
      if (watch?.see(depth(found.frame, this.#stage.aspect), found.time)?.event !== "end") return;
      recording.drop(); // the sign ended here, however late that was noticed
      this.#end();
    };
    const recording = new Recording(this.engine, this.#camera.size, { hold: this.slow, most: this.most, before, seen });
    recording.alone = alone;
    this.#recording = recording;
    setState("recording");
  }

  #full() {
    tell("warning", "clip_cut", { s: Math.round(LONGEST_MS / 1000) });
    this.#end();
  }

  /** End the recording, and make a clip of it. */
  async #end() {
    const recording = this.#recording;
    if (state() !== "recording") return;
    setState("reading");
    try {
      await this.#tasked(async (signal) => {
        const clip = await recording.finish((done, total) => this.#emit("progress", { done, total }), signal);
        if (!signal.aborted) this.#done(clip, this.#purpose);
      });
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#recording = null;
      this.#hands.reset();
      if (state() === "reading") setState(this.camera ? "live" : "idle");
      this.engine?.reset(); // so that the next clip begins with nothing known of this one
    }
  }

  // Videos

  /**
   * Read a video frame by frame.
   *
   * @param {File} file
   * @param {"ask"|"teach"} purpose what the clip is for
   * @returns {Promise<boolean>} whether a clip came of it
   */
  async read(file, purpose = "ask") {
    untell();
    if (this.#lacks()) return false;
    this.turnOff();
    setState("reading");
    try {
      const how = {
        stage: this.#stage,
        ready: (video) => this.#keeper.ready(video),
        most: this.most,
        progress: (done, total) => this.#emit("progress", { done, total }),
      };
      const clip = await this.#tasked((signal) => readVideo(file, how, signal));
      if (clip) this.#done(clip, purpose);
      return clip !== null;
    } catch (error) {
      this.#fail(error, { name: file.name });
      return false;
    } finally {
      if (state() === "reading") setState("idle");
    }
  }

  // What both share

  /** Run what can be cancelled. */
  async #tasked(work) {
    const task = new AbortController();
    this.#task = task;
    try {
      return await work(task.signal);
    } finally {
      if (task.signal.aborted) tell("info", "cancelled");
      if (this.#task === task) this.#task = null;
    }
  }

  /** End what is under way without a clip. */
  cancel() {
    clearTimeout(this.#timer);
    this.#recording?.drop();
    this.#task?.abort();
  }

  /** Hand a clip over, cut to its sign where hands tell where that lies. */
  #done(clip, purpose) {
    setState(this.camera ? "live" : "idle");
    const sign = withoutRest(clip);
    this.#emit("clip", { clip: sign ?? clip, purpose, raised: sign !== null });
  }
}

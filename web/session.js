/** Produces clips: preview of the camera, countdown, recording, reading of videos. */

import { Camera, CameraError } from "./camera.js";
import { EngineError, missingFeature } from "./engine.js";
import { HandWatch, cutRest, wristDepth } from "./hands.js";
import { Keeper } from "./keeper.js";
import { $, removeMessages, setState, showMessage, state } from "./page.js";
import { readVideo } from "./reading.js";
import { LONGEST_MS, Recording, release } from "./recording.js";
import { Stage } from "./stage.js";
import { VideoError } from "./video.js";

const COUNTDOWN = 3; // seconds
const BEFORE_MS = 2500; // pictures to keep: a rise is noticed three frames later, and a slow CPU needs 0.7 s per frame

export class Session extends EventTarget {
  #camera = new Camera($("video"));
  #stage = new Stage();
  #starting = null;
  #keeper = new Keeper(() => this.#emit("engine"));
  #recording = null;
  #busy = false;
  #latest = []; // pictures of the last BEFORE_MS
  #hands = new HandWatch();
  #task = null; // AbortController of the task that `cancel` ends
  #timer = null;
  #purpose = "ask";

  /** Set by main.js: whether to record automatically, and the model's limit of frames. */
  auto = false;
  maxFrames = 512;

  constructor() {
    super();
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "hidden" && ["countdown", "recording"].includes(state())) this.#onHidden();
    });
  }

  get camera() {
    return this.#camera.on;
  }

  get engine() {
    return this.#keeper.engine;
  }

  get inference() {
    return this.#keeper.preference;
  }

  set inference(preference) {
    this.#keeper.preference = preference;
    this.turnOff();
    this.#keeper.close();
  }

  /** Whether finding landmarks takes longer than a frame of the camera lasts. */
  get slow() {
    return (this.frameTime ?? 0) > 0.9 * (this.#camera.interval ?? Infinity);
  }

  /** Milliseconds that finding a frame's landmarks takes. */
  get frameTime() {
    return this.#keeper.frameTime;
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #fail(error, values = {}) {
    if (!(error instanceof CameraError || error instanceof EngineError || error instanceof VideoError)) throw error;
    if (error.code === "engine_failed") this.#keeper.close("failed");
    showMessage("error", error.code, { ...values, ...error.values });
  }

  // Camera

  /** Turn the camera on; return whether it is on. */
  turnOn() {
    if (this.camera && !this.#starting) return Promise.resolve(true);
    this.#starting ??= this.#turnOn().finally(() => {
      this.#starting = null;
    });
    return this.#starting;
  }

  #isUnsupported() {
    const missing = missingFeature();
    if (missing) showMessage("error", missing);
    return missing !== null;
  }

  async #turnOn() {
    removeMessages();
    if (this.#isUnsupported()) return false;
    try {
      await this.#camera.open(() => {
        this.turnOff();
        showMessage("error", "camera_ended");
      });
      this.#stage.show(this.#camera.size, true);
      setState("live");
      await this.#keeper.ready(this.#stage.video);
    } catch (error) {
      const canceled = error instanceof EngineError && !this.camera; // without the camera, the engine gets no picture
      this.turnOff();
      if (canceled) this.#keeper.close();
      else this.#fail(error);
      return false;
    }
    if (!this.camera) return false; // it was turned off meanwhile
    this.engine.reset(); // it may be another person
    this.#hands.reset();
    this.#camera.watch((time) => this.#onFrame(time));
    return true;
  }

  turnOff() {
    this.cancel();
    this.#camera.close();
    release(this.#latest.splice(0));
    this.#stage.hide();
    if (["live", "countdown", "recording"].includes(state())) setState("idle");
  }

  /** Discard the recording of a page that was hidden: browsers show no camera frames in a hidden page. */
  #onHidden() {
    this.cancel();
    this.#recording = null;
    setState("live");
    this.engine.reset();
    showMessage("warning", "page_hidden");
  }

  #onFrame(time) {
    if (state() === "recording") {
      if (!this.#recording.add(this.#camera.picture(), time)) this.#full();
      else if (this.#recording.automatic && this.#recording.deferred) this.#startPreview(time);
      return;
    }
    const keep = this.auto && state() === "live";
    if (keep) this.#latest.push({ picture: this.#camera.picture(), time });
    const expired = this.#latest.findIndex((entry) => entry.time > time - BEFORE_MS);
    release(this.#latest.splice(0, keep ? expired : Infinity));
    if (state() !== "reading") this.#startPreview(time);
  }

  /** Find the landmarks of the current frame, unless an earlier frame is still being processed. */
  #startPreview(time) {
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
    if (this.camera) this.#showFrame({ frame, time, ms });
  }

  /** Show a frame's skeleton, and start or end an automatic recording if the hands rise or fall. */
  #showFrame({ frame, time, ms }) {
    this.#keeper.addFrameTime(ms);
    this.#stage.draw(frame);
    this.#emit("frame");
    const recording = state() === "recording" && this.#recording.automatic && this.#recording.deferred;
    if (!recording && !(this.auto && state() === "live")) return;
    const change = this.#hands.update(wristDepth(frame, this.#stage.aspect), time);
    if (change?.event === "start" && !recording) this.#startRecording(change.from);
    if (change?.event === "end" && recording) this.#end();
  }

  // Recording

  /** Handle the record button: start the countdown, cancel it, or end the recording. */
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
    removeMessages();
    if (!(await this.turnOn()) || state() !== "live") return;
    this.#purpose = purpose;
    this.#count(COUNTDOWN);
  }

  #count(n) {
    if (n === 0) {
      this.#startRecording();
      return;
    }
    setState("countdown");
    this.#emit("count", n);
    this.#timer = setTimeout(() => this.#count(n - 1), 1000);
  }

  /** Start to record; an automatic recording starts with the earlier pictures since the time `from`. */
  #startRecording(from = null) {
    const automatic = from !== null;
    if (automatic) {
      removeMessages();
      this.#purpose = "ask";
    }
    release(this.#latest.splice(0, automatic ? this.#latest.findIndex((entry) => entry.time >= from) : Infinity));
    const before = this.#latest.splice(0);
    const watch = automatic ? new HandWatch("down") : null;
    const onFrame = (result) => {
      this.#showFrame(result);
      if (watch?.update(wristDepth(result.frame, this.#stage.aspect), result.time)?.event !== "end") return;
      recording.drop(); // the sign ended with this frame; later pictures are not part of it
      this.#end();
    };
    const recording = new Recording(this.engine, this.#camera.size, {
      deferred: this.slow, maxFrames: this.maxFrames, before, onFrame,
    });
    recording.automatic = automatic;
    this.#recording = recording;
    setState("recording");
  }

  #full() {
    showMessage("warning", "clip_cut", { s: Math.round(LONGEST_MS / 1000) });
    this.#end();
  }

  /** End the recording, and turn it into a clip. */
  async #end() {
    const recording = this.#recording;
    if (state() !== "recording") return;
    setState("reading");
    try {
      await this.#runTask(async (signal) => {
        const clip = await recording.finish((done, total) => this.#emit("progress", { done, total }), signal);
        if (!signal.aborted) this.#emitClip(clip, this.#purpose);
      });
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#recording = null;
      this.#hands.reset();
      if (state() === "reading") setState(this.camera ? "live" : "idle");
      this.engine?.reset(); // so that this clip does not influence the next one
    }
  }

  // Videos

  /**
   * Read a video frame by frame.
   *
   * @param {File} file
   * @param {"ask"|"teach"} purpose purpose of the clip
   * @returns {Promise<boolean>} whether the video became a clip
   */
  async read(file, purpose = "ask") {
    removeMessages();
    if (this.#isUnsupported()) return false;
    this.turnOff();
    setState("reading");
    try {
      const options = {
        stage: this.#stage,
        ready: (video) => this.#keeper.ready(video),
        maxFrames: this.maxFrames,
        progress: (done, total) => this.#emit("progress", { done, total }),
      };
      const clip = await this.#runTask((signal) => readVideo(file, options, signal));
      if (clip) this.#emitClip(clip, purpose);
      return clip !== null;
    } catch (error) {
      this.#fail(error, { name: file.name });
      return false;
    } finally {
      if (state() === "reading") setState("idle");
    }
  }

  // Tasks and clips

  /** Run a task that `cancel` can end. */
  async #runTask(work) {
    const task = new AbortController();
    this.#task = task;
    try {
      return await work(task.signal);
    } finally {
      if (task.signal.aborted) showMessage("info", "cancelled");
      if (this.#task === task) this.#task = null;
    }
  }

  /** End the countdown, the recording or the reading of a video, without a clip. */
  cancel() {
    clearTimeout(this.#timer);
    this.#recording?.drop();
    this.#task?.abort();
  }

  /** Emit a clip, cut to its sign if a raised hand shows where the sign is. */
  #emitClip(clip, purpose) {
    setState(this.camera ? "live" : "idle");
    const sign = cutRest(clip);
    this.#emit("clip", { clip: sign ?? clip, purpose, handRaised: sign !== null });
  }
}

/** Connects the parts of the page: clips, requests, settings. */

import { UNKNOWN_MODEL, kindOfFile, readAnswers, readModel } from "./answers.js";
import { check, readClip, requestBody } from "./clip.js";
import { missingFeature } from "./engine.js";
import * as page from "./page.js";
import {
  $, currentLanguage, onLanguage, onPress, removeMessages, setEnabled, setState, setting, showMessage, state, t,
} from "./page.js";
import { Replay } from "./replay.js";
import { showAnswer, showEngine, showModel, showTimes, startResults } from "./results.js";
import { Server, ServerError, urlOf } from "./server.js";
import { Session } from "./session.js";
import { Teach } from "./teach.js";
import { duration, size } from "./timing.js";

const TOP = 5;

let model = UNKNOWN_MODEL;
let server = new Server(urlOf("", document.baseURI));
let activeRequest = null; // AbortController of the running prediction or enrollment
let activeDescription = null; // AbortController of the running request for the model's description
let secondsLeft = 0; // of the countdown

const session = new Session();
const replay = new Replay(() => model.layout);
const teach = new Teach({
  model: () => model,
  last: () => replay.clip,
  record: () => {
    $("record-button").focus(); // it ends the recording, and is below the camera's picture
    $("stage").scrollIntoView({ block: "nearest" });
    session.record("teach");
  },
  fits,
  read: (file) => session.read(file, "teach"),
  ask: async (body) => (await sendRequest(body, "application/json"))?.body ?? null,
  changed: () => showModel(model, teach.names),
});

// Requests

/** Send a request; if it fails, show a message and return null. */
async function sendRequest(body, type) {
  activeRequest?.abort();
  const controller = new AbortController();
  activeRequest = controller;
  setState("asking");
  try {
    const response = await server.send(body, type, controller.signal, () => showMessage("info", "server_waiting"));
    if (model === UNKNOWN_MODEL && !activeDescription) describe();
    return response;
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    if (error.code === "cancelled" && activeRequest !== controller) return null; // replaced by a newer request
    if (error.server?.code === "enrolled_of_another_model") teach.refused();
    else showServerError(error);
    return null;
  } finally {
    removeMessages("server_waiting");
    if (activeRequest === controller) {
      activeRequest = null;
      if (state() === "asking") setState(session.camera ? "live" : "idle");
    }
  }
}

function showServerError({ code, server: serverError }) {
  const kind = code === "cancelled" ? "info" : "error";
  const values = { where: server.url, status: serverError?.status ?? "" };
  showMessage(kind, code, values, serverError?.message ? serverError : null);
}

/** Send a clip and show the answer; a failure removes the previous answer. `fps` is the clip's frame rate, if known. */
async function predict(body, type, fps = null) {
  showTimes({ request: null, sent: null });
  const response = await sendRequest(body, type);
  const answers = response && readAnswers(response.body);
  if (response && !answers) showMessage("error", "server_other", { where: server.url });
  if (!answers) {
    if (!activeRequest) showAnswer(null); // otherwise a newer request is running
    return;
  }
  showTimes({ request: response.ms, sent: new Blob([body]).size });
  const prediction = answers.find((answer) => answer.instances);
  const failure = answers.find((answer) => answer.error);
  if (failure) showMessage(prediction ? "warning" : "error", "server_refused", { status: 200 }, failure.error);
  showAnswer(prediction ?? null, answers.length, fps);
  if (prediction && prediction.frames !== null) showTimes({ frames: prediction.frames });
}

async function sendClip(clip) {
  const enrolled = teach.toSend;
  await predict(requestBody(clip, model.layout, TOP, enrolled), "application/json", clip.fps);
  // If the server refused the signs because they belong to other weights, send the clip without them.
  if (enrolled && !teach.toSend) await predict(requestBody(clip, model.layout, TOP), "application/json", clip.fps);
}

/** Request the description of the server's model. */
async function describe() {
  activeDescription?.abort();
  const controller = new AbortController();
  activeDescription = controller;
  let description = null;
  removeMessages(
    "model_unknown", "server_down", "server_busy", "server_timeout", "server_refused", "server_failed", "server_other",
  );
  try {
    const { body } = await server.send('{"describe": true}', "application/json", controller.signal);
    description = readModel(body);
    if (!description) showMessage("warning", "model_unknown");
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    if (controller.signal.aborted) return;
    showServerError(error);
    showMessage("warning", "model_unknown");
  }
  activeDescription = null;
  model = description ?? UNKNOWN_MODEL;
  session.maxFrames = model.limits.max_frames;
  teach.open(model);
  showModel(model, teach.names);
  writePrivacy();
  replay.pause(); // rewrites its download button, which names the layout
}

// Clips

session.addEventListener("clip", async ({ detail: { clip, purpose, handRaised } }) => {
  page.count("clips");
  replay.show(clip);
  showTimes({ durations: clip.durations, frames: clip.frames.length, fps: clip.fps, request: null, sent: null });
  const { errors, warnings } = check(clip, model.limits);
  for (const code of errors) showMessage("error", code, { n: clip.frames.length, max: model.limits.max_frames });
  for (const code of warnings) showMessage("warning", code);
  if (!handRaised && !errors.length && !warnings.length) showMessage("info", "no_sign_seen");
  if (errors.length || purpose === "teach") showAnswer(null); // the previous answer is for another clip
  if (!errors.length && purpose === "teach") {
    teach.add(clip);
    if (document.activeElement === $("record-button")) $("teach-record").focus(); // back to the button that started it
  } else if (!errors.length) await sendClip(clip);
  teach.enable();
});

async function openFile(file) {
  if (!file || !["idle", "live"].includes(state())) return;
  removeMessages();
  const { kind, type } = kindOfFile(file.name, file.type);
  if (kind === "unknown") showMessage("error", "file_type_unknown", { name: file.name });
  else if (kind === "video") await session.read(file);
  else await sendLandmarks(file, type);
}

/** Return whether a landmark file is small enough for the server; if not, show a message. */
function fits(file) {
  const limit = model.limits.max_bytes;
  if (file.size <= limit) return true;
  const sizes = { size: size(file.size, currentLanguage()), max: size(limit, currentLanguage()) };
  showMessage("error", "body_too_large", { name: file.name, ...sizes });
  return false;
}

async function sendLandmarks(file, type) {
  if (!fits(file)) return;
  let body;
  try {
    body = await file.arrayBuffer();
  } catch {
    showMessage("error", "bad_file", { name: file.name });
    return;
  }
  const text = type === "application/json" ? new TextDecoder().decode(body) : "";
  const clip = text ? readClip(text, model.layout) : null;
  page.count("clips");
  showTimes({ durations: [], frames: clip?.frames.length ?? null, fps: clip?.fps ?? null });
  if (clip) replay.show(clip);
  else replay.showFile(file.name);
  teach.enable();
  if (clip && teach.toSend) await sendClip(clip);
  else {
    if (teach.toSend) showMessage("info", "enrolled_not_sent");
    await predict(body, type, clip?.fps);
  }
}

// Texts that depend on the state

function writeState(now = state()) {
  const busy = !["idle", "live"].includes(now);
  const recording = { countdown: "record.cancel", recording: "record.stop" }[now] ?? "record.start";
  $("record-button").textContent = t(recording);
  setEnabled("record-button", !["loading", "reading", "asking"].includes(now));
  $("camera-button").textContent = t(session.camera ? "camera.off" : "camera.on");
  $("camera-button").setAttribute("aria-pressed", String(session.camera));
  setEnabled("camera-button", !["loading", "reading"].includes(now));
  setEnabled("file-button", !busy);
  setEnabled("send-again", !busy);
  const idle = !["reading", "asking"].includes(now);
  if (idle && document.activeElement === $("cancel-button")) $("record-button").focus(); // it will be hidden
  $("cancel-button").hidden = idle;
  $("reading").hidden = now !== "reading";
  const opening = document.body.dataset.engine === "loading" && ["live", "reading"].includes(now);
  const key = opening ? "state.opening" : now === "live" && session.auto ? "state.live.auto" : `state.${now}`;
  $("state-text").textContent = t(key, { n: secondsLeft });
  $("countdown").textContent = now === "countdown" ? secondsLeft : "";
  if (now !== "live") $("quality").textContent = "";
  teach.enable();
}

function writePrivacy() {
  const where = server.isCrossOrigin ? new URL(server.url).host : t("privacy.here");
  $("privacy-text").textContent = t("privacy.text", { n: model.layout.mediapipe.length, where });
}

session.addEventListener("count", ({ detail }) => {
  secondsLeft = detail;
  writeState();
});
session.addEventListener("engine", () => {
  showEngine(session.engine);
  writeState();
});
session.addEventListener("frame", () => {
  if (state() !== "live" || session.frameTime === null) return;
  const quality = t(session.slow ? "quality.slow" : "quality.live", { ms: duration(session.frameTime, currentLanguage()) });
  if ($("quality").textContent !== quality) $("quality").textContent = quality;
});
session.addEventListener("progress", ({ detail: { done, total } }) => {
  if (total) Object.assign($("progress"), { max: total, value: done });
  else $("progress").removeAttribute("value");
  $("progress-text").textContent = t(total ? "progress.frames" : "progress.some", { done, total });
});

// Settings

function apply() {
  const url = urlOf($("endpoint").value, document.baseURI);
  removeMessages("bad_endpoint", "endpoint_from_link");
  if (!url) {
    showMessage("error", "bad_endpoint");
    $("endpoint").focus();
    return;
  }
  server = new Server(url, { kind: $("auth-kind").value, key: $("auth-key").value.trim() });
  setting("endpoint", $("endpoint").value.trim());
  model = UNKNOWN_MODEL; // until this server has described its model
  showModel(null, []);
  teach.open(model);
  describe();
}

function start() {
  $("endpoint").value = page.parameter("endpoint") ?? setting("endpoint") ?? "";
  const url = urlOf($("endpoint").value, document.baseURI);
  if (url) server = new Server(url);
  else showMessage("error", "bad_endpoint");
  if (url && page.parameter("endpoint") && server.isCrossOrigin) {
    showMessage("warning", "endpoint_from_link", { where: new URL(url).host });
  }
  const inference = page.parameter("inference") ?? setting("inference");
  session.inference = $("inference").value = ["auto", "gpu", "cpu"].includes(inference) ? inference : "auto";
  session.auto = $("auto-record").checked = (page.parameter("auto") ?? setting("auto")) === "1";

  onPress("camera-button", () => (session.camera ? session.turnOff() : session.turnOn()));
  onPress("record-button", () => session.record());
  onPress("cancel-button", () => (state() === "asking" ? activeRequest?.abort() : session.cancel()));
  onPress("file-button", () => $("file-input").click());
  $("file-input").addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    openFile(file);
  });
  onPress("send-again", () => {
    removeMessages();
    sendClip(replay.clip);
  });
  $("auto-record").addEventListener("change", (event) => {
    session.auto = event.target.checked;
    setting("auto", session.auto ? "1" : "0");
    writeState();
  });
  $("inference").addEventListener("change", (event) => {
    session.inference = event.target.value;
    setting("inference", session.inference);
  });
  $("settings-form").addEventListener("submit", (event) => {
    event.preventDefault();
    apply();
  });
  for (const language of ["en", "es"]) $(`language-${language}`).addEventListener("click", () => page.setLanguage(language));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    openFile(event.dataTransfer.files[0]);
  });

  startResults();
  page.onState(writeState);
  onLanguage(writeState);
  onLanguage(writePrivacy);
  page.writeAll();
  const missing = missingFeature();
  if (missing) showMessage("warning", missing);
  setState("idle");
  describe();
}

start();

/** The page: its parts put together. */

import { UNKNOWN_MODEL, kindOfFile, readAnswers, readModel } from "./answers.js";
import { check, question, readClip } from "./clip.js";
import { lacking } from "./engine.js";
import * as page from "./page.js";
import { $, allow, currentLanguage, inWords, pressed, remembered, setState, state, t, tell, untell } from "./page.js";
import { Replay } from "./replay.js";
import { showAnswer, showEngine, showModel, showTimes, startResults } from "./results.js";
import { Server, ServerError, addressOf } from "./server.js";
import { Session } from "./session.js";
import { Teach } from "./teach.js";
import { duration, size } from "./timing.js";

const TOP = 5;

let model = UNKNOWN_MODEL;
let server = new Server(addressOf("", document.baseURI));
let asking = null; // AbortController of the question under way
let describing = null;
let counted = 0;

const session = new Session();
const replay = new Replay(() => model.layout);
const teach = new Teach({
  model: () => model,
  last: () => replay.clip,
  record: () => {
    $("record-button").focus(); // which ends it, and stands below the camera's picture
    $("stage").scrollIntoView({ block: "nearest" });
    session.record("teach");
  },
  fits,
  read: (file) => session.read(file, "teach"),
  ask: async (body) => (await askServer(body, "application/json"))?.body ?? null,
  changed: () => showModel(model, teach.names),
});

// Asking

/** Ask, saying what goes wrong; null where it did. */
async function askServer(body, type) {
  asking?.abort();
  const mine = new AbortController();
  asking = mine;
  setState("asking");
  try {
    const answer = await server.ask(body, type, mine.signal, () => tell("info", "server_waiting"));
    if (model === UNKNOWN_MODEL && !describing) describe();
    return answer;
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    if (error.code === "cancelled" && asking !== mine) return null; // another question took its place
    if (error.server?.code === "enrolled_of_another_model") teach.refused();
    else tellServer(error);
    return null;
  } finally {
    untell("server_waiting");
    if (asking === mine) {
      asking = null;
      if (state() === "asking") setState(session.camera ? "live" : "idle");
    }
  }
}

function tellServer({ code, server: said }) {
  const kind = code === "cancelled" ? "info" : "error";
  tell(kind, code, { where: server.url, status: said?.status ?? "" }, said?.message ? said : null);
}

/** Ask, and show the answer; the last one stays until then, and goes where none comes. `fps` is the clip's, if known. */
async function ask(body, type, fps = null) {
  showTimes({ request: null, sent: null });
  const answer = await askServer(body, type);
  const answers = answer && readAnswers(answer.body);
  if (answer && !answers) tell("error", "server_other", { where: server.url });
  if (!answers) {
    if (!asking) showAnswer(null); // else another question took its place
    return;
  }
  showTimes({ request: answer.ms, sent: new Blob([body]).size });
  const good = answers.find((one) => one.instances);
  const bad = answers.find((one) => one.error);
  if (bad) tell(good ? "warning" : "error", "server_refused", { status: 200 }, bad.error);
  showAnswer(good ?? null, answers.length, fps);
  if (!good) return;
  if (good.frames !== null) showTimes({ frames: good.frames });
}

async function askAbout(clip) {
  const enrolled = teach.sent;
  await ask(question(clip, model.layout, TOP, enrolled), "application/json", clip.fps);
  // Signs that belong to other weights were refused: without them the model still answers.
  if (enrolled && !teach.sent) await ask(question(clip, model.layout, TOP), "application/json", clip.fps);
}

/** Ask the server what its model knows. */
async function describe() {
  describing?.abort();
  const mine = new AbortController();
  describing = mine;
  let known = null;
  untell("model_unknown", "server_down", "server_busy", "server_timeout", "server_refused", "server_failed", "server_other");
  try {
    const { body } = await server.ask('{"describe": true}', "application/json", mine.signal);
    known = readModel(body);
    if (!known) tell("warning", "model_unknown");
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    if (mine.signal.aborted) return;
    tellServer(error);
    tell("warning", "model_unknown");
  }
  describing = null;
  model = known ?? UNKNOWN_MODEL;
  session.most = model.limits.max_frames;
  teach.open(model);
  showModel(model, teach.names);
  sayPrivacy();
  replay.pause(); // its button names the layout
}

// Clips

session.addEventListener("clip", async ({ detail: { clip, purpose, raised } }) => {
  page.count("clips");
  replay.show(clip);
  showTimes({ costs: clip.costs, frames: clip.frames.length, fps: clip.fps, request: null, sent: null });
  const { errors, warnings } = check(clip, model.limits);
  for (const code of errors) tell("error", code, { n: clip.frames.length, max: model.limits.max_frames });
  for (const code of warnings) tell("warning", code);
  if (!raised && !errors.length && !warnings.length) tell("info", "no_sign_seen");
  if (errors.length || purpose === "teach") showAnswer(null); // the last one is of another clip
  if (!errors.length && purpose === "teach") {
    teach.add(clip);
    if (document.activeElement === $("record-button")) $("teach-record").focus(); // back to where it was asked for
  }
  else if (!errors.length) await askAbout(clip);
  teach.allow();
});

async function take(file) {
  if (!file || !["idle", "live"].includes(state())) return;
  untell();
  const { kind, type } = kindOfFile(file.name, file.type);
  if (kind === "unknown") tell("error", "file_type_unknown", { name: file.name });
  else if (kind === "video") await session.read(file);
  else await takeLandmarks(file, type);
}

/** Tell whether the server takes a landmark file of this size; if not, it is said. */
function fits(file) {
  const limit = model.limits.max_bytes;
  if (file.size <= limit) return true;
  const words = { size: size(file.size, currentLanguage()), max: size(limit, currentLanguage()) };
  tell("error", "body_too_large", { name: file.name, ...words });
  return false;
}

async function takeLandmarks(file, type) {
  if (!fits(file)) return;
  let body;
  try {
    body = await file.arrayBuffer();
  } catch {
    tell("error", "bad_file", { name: file.name });
    return;
  }
  const text = type === "application/json" ? new TextDecoder().decode(body) : "";
  const clip = text ? readClip(text, model.layout) : null;
  page.count("clips");
  showTimes({ costs: [], frames: clip?.frames.length ?? null, fps: clip?.fps ?? null });
  if (clip) replay.show(clip);
  else replay.showFile(file.name);
  teach.allow();
  if (clip && teach.sent) await askAbout(clip);
  else {
    if (teach.sent) tell("info", "enrolled_not_sent");
    await ask(body, type, clip?.fps);
  }
}

// Words that depend on what goes on

function sayState(now = state()) {
  const busy = !["idle", "live"].includes(now);
  const recording = { countdown: "record.cancel", recording: "record.stop" }[now] ?? "record.start";
  $("record-button").textContent = t(recording);
  allow("record-button", !["loading", "reading", "asking"].includes(now));
  $("camera-button").textContent = t(session.camera ? "camera.off" : "camera.on");
  $("camera-button").setAttribute("aria-pressed", String(session.camera));
  allow("camera-button", !["loading", "reading"].includes(now));
  allow("file-button", !busy);
  allow("send-again", !busy);
  const idle = !["reading", "asking"].includes(now);
  if (idle && document.activeElement === $("cancel-button")) $("record-button").focus(); // it goes away
  $("cancel-button").hidden = idle;
  $("reading").hidden = now !== "reading";
  const opening = document.body.dataset.engine === "loading" && ["live", "reading"].includes(now);
  const key = opening ? "state.opening" : now === "live" && session.auto ? "state.live.auto" : `state.${now}`;
  $("state-text").textContent = t(key, { n: counted });
  $("countdown").textContent = now === "countdown" ? counted : "";
  if (now !== "live") $("quality").textContent = "";
  teach.allow();
}

function sayPrivacy() {
  const where = server.elsewhere ? new URL(server.url).host : t("privacy.here");
  $("privacy-text").textContent = t("privacy.text", { n: model.layout.mediapipe.length, where });
}

session.addEventListener("count", ({ detail }) => {
  counted = detail;
  sayState();
});
session.addEventListener("engine", () => {
  showEngine(session.engine);
  sayState();
});
session.addEventListener("frame", () => {
  if (state() !== "live" || session.cost === null) return;
  const words = t(session.slow ? "quality.slow" : "quality.live", { ms: duration(session.cost, currentLanguage()) });
  if ($("quality").textContent !== words) $("quality").textContent = words;
});
session.addEventListener("progress", ({ detail: { done, total } }) => {
  if (total) Object.assign($("progress"), { max: total, value: done });
  else $("progress").removeAttribute("value");
  $("progress-text").textContent = t(total ? "progress.frames" : "progress.some", { done, total });
});

// Settings

function apply() {
  const url = addressOf($("endpoint").value, document.baseURI);
  untell("bad_endpoint", "endpoint_from_link");
  if (!url) {
    tell("error", "bad_endpoint");
    $("endpoint").focus();
    return;
  }
  server = new Server(url, { kind: $("auth-kind").value, key: $("auth-key").value.trim() });
  remembered("endpoint", $("endpoint").value.trim());
  model = UNKNOWN_MODEL; // until this server says which one it has
  showModel(null, []);
  teach.open(model);
  describe();
}

function start() {
  $("endpoint").value = page.parameter("endpoint") ?? remembered("endpoint") ?? "";
  const url = addressOf($("endpoint").value, document.baseURI);
  if (url) server = new Server(url);
  else tell("error", "bad_endpoint");
  if (url && page.parameter("endpoint") && server.elsewhere) tell("warning", "endpoint_from_link", { where: new URL(url).host });
  const wish = page.parameter("inference") ?? remembered("inference");
  session.inference = $("inference").value = ["auto", "gpu", "cpu"].includes(wish) ? wish : "auto";
  session.auto = $("auto-record").checked = (page.parameter("auto") ?? remembered("auto")) === "1";

  pressed("camera-button", () => (session.camera ? session.turnOff() : session.turnOn()));
  pressed("record-button", () => session.record());
  pressed("cancel-button", () => (state() === "asking" ? asking?.abort() : session.cancel()));
  pressed("file-button", () => $("file-input").click());
  $("file-input").addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    take(file);
  });
  pressed("send-again", () => {
    untell();
    askAbout(replay.clip);
  });
  $("auto-record").addEventListener("change", (event) => {
    session.auto = event.target.checked;
    remembered("auto", session.auto ? "1" : "0");
    sayState();
  });
  $("inference").addEventListener("change", (event) => {
    session.inference = event.target.value;
    remembered("inference", session.inference);
  });
  $("settings-form").addEventListener("submit", (event) => {
    event.preventDefault();
    apply();
  });
  for (const language of ["en", "es"]) $(`language-${language}`).addEventListener("click", () => page.setLanguage(language));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    take(event.dataTransfer.files[0]);
  });

  startResults();
  page.onState(sayState);
  inWords(sayState);
  inWords(sayPrivacy);
  page.sayAll();
  const lack = lacking();
  if (lack) tell("warning", lack);
  setState("idle");
  describe();
}

start();

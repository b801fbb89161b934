/** Shows the model, the answer and the time of each step. */

import { MIN_FPS } from "./clip.js";
import { $, count, currentLanguage, element, onLanguage, t } from "./page.js";
import { duration, median, size } from "./timing.js";

let model = null;
let taught = [];
let answer = null;
let clipCount = 0;
let lowFps = null; // frames per second of a clip, if they are too few to recognize a sign
let engine = null;
const times = { durations: [], request: null, frames: null, fps: null, sent: null };

const percent = (score) =>
  new Intl.NumberFormat(currentLanguage(), { style: "percent", maximumFractionDigits: 1 }).format(score);

const rate = (fps) => new Intl.NumberFormat(currentLanguage(), { maximumFractionDigits: 1 }).format(fps);

/**
 * Show the model; null while its description is requested.
 *
 * @param {?object} next result of `readModel`, or UNKNOWN_MODEL
 * @param {string[]} taughtGlosses glosses kept in this browser
 */
export function showModel(next, taughtGlosses) {
  model = next;
  taught = taughtGlosses;
  document.body.dataset.model = !model ? "waiting" : model.name === null ? "unknown" : "known";
  writeModel();
}

function writeModel() {
  $("model-name").textContent = t(`model.${document.body.dataset.model}`, model ?? {});
  const all = [...(model?.glosses ?? []).filter((gloss) => !taught.includes(gloss)), ...taught];
  const unknown = document.body.dataset.model === "unknown";
  $("signs-count").textContent = unknown ? t("signs.unknown") : t("signs.count", { n: all.length });
  $("signs-list").hidden = !all.length;
  $("signs-list").replaceChildren(
    ...all.map((gloss) => {
      const isTaught = taught.includes(gloss);
      const item = element("li", { text: gloss, dataset: { gloss } });
      if (isTaught || model.enrolled.includes(gloss)) item.dataset.enrolled = isTaught ? "here" : "server";
      if (isTaught) item.append(element("small", { text: ` ${t("answer.own")}` }));
      return item;
    }),
  );
}

/**
 * Show an answer.
 *
 * @param {?object} next an element of the result of `readAnswers`; null removes the last answer
 * @param {number} clips number of clips in the response
 * @param {?number} fps frames per second of the clip, if known
 */
export function showAnswer(next, clips = 1, fps = null) {
  if (!answer && !next) return;
  answer = next;
  clipCount = clips;
  lowFps = answer?.known === false && fps !== null && fps < MIN_FPS ? fps : null;
  $("answer").dataset.known = answer ? String(answer.known) : "none";
  $("answer").toggleAttribute("data-slow", lowFps !== null);
  writeAnswer();
  if (!answer) return;
  // On a phone both are below the camera. The verdict is scrolled to last, so that it is visible on any screen.
  for (const id of ["answer-list", "verdict"]) $(id).scrollIntoView({ block: "nearest" });
  count("answers");
}

function writeAnswer() {
  const best = answer?.instances[0];
  const verdict = lowFps !== null ? "answer.slow" : answer ? `answer.${answer.known}` : "answer.empty";
  const words = [t(verdict, { gloss: best?.gloss ?? "–", fps: rate(lowFps), min: MIN_FPS })];
  if (clipCount > 1) words.push(t("answer.several", { n: clipCount }));
  $("verdict").textContent = words.join(" ");
  $("answer-list").replaceChildren(
    ...(answer?.instances ?? []).map(({ gloss, score, index }) => {
      const bar = element("span", { className: "bar", ariaHidden: "true" });
      bar.style.setProperty("--share", Math.min(1, Math.max(0, score)));
      const name = element("span", { className: "gloss", text: gloss });
      if (taught.includes(gloss)) name.append(element("small", { text: ` ${t("answer.own")}` }));
      const row = [name, element("span", { className: "score", text: percent(score) }), bar];
      return element("li", { dataset: { gloss, score, index } }, row);
    }),
  );
}

/** Show times; those that `next` does not contain stay unchanged. */
export function showTimes(next) {
  Object.assign(times, next);
  writeTimes();
}

function writeTimes() {
  const language = currentLanguage();
  const write = (id, value, text) => {
    $(id).textContent = value === null ? "–" : text;
    $(id).dataset.value = value ?? "";
  };
  const medianMs = median(times.durations);
  const values = { median: duration(medianMs, language), slowest: duration(Math.max(...times.durations), language) };
  write("time-landmarks", medianMs, t("times.landmarks.value", values));
  write("time-request", times.request, duration(times.request, language));
  write("time-frames", times.frames, String(times.frames));
  write("time-fps", times.fps, rate(times.fps));
  write("sent-bytes", times.sent, size(times.sent ?? 0, language));
}

/** Show the inference that runs. */
export function showEngine(next) {
  engine = next;
  writeEngine();
}

function writeEngine() {
  const values = engine && { mode: engine.mode.toUpperCase(), ms: duration(engine.timed, currentLanguage()), why: t(engine.reason) };
  $("engine-text").textContent = values ? t("engine.value", values) : t("engine.none");
  $("engine-text").dataset.value = engine?.timed ?? "";
}

export function startResults() {
  for (const write of [writeModel, writeAnswer, writeTimes, writeEngine]) onLanguage(write);
}

/** What the page says of the model, of an answer, and of the time that each step took. */

import { MIN_FPS } from "./clip.js";
import { $, count, currentLanguage, element, inWords, t } from "./page.js";
import { duration, median, size } from "./timing.js";

let model = null;
let own = [];
let answer = null;
let several = 0;
let slow = null; // frames a second of a clip that has too few to tell
let engine = null;
const times = { costs: [], request: null, frames: null, fps: null, sent: null };

const percent = (score) =>
  new Intl.NumberFormat(currentLanguage(), { style: "percent", maximumFractionDigits: 1 }).format(score);

const rate = (fps) => new Intl.NumberFormat(currentLanguage(), { maximumFractionDigits: 1 }).format(fps);

/**
 * Show which model answers; null while it is asked for.
 *
 * @param {?object} next of `readModel`, or UNKNOWN_MODEL
 * @param {string[]} taught glosses that this browser keeps
 */
export function showModel(next, taught) {
  model = next;
  own = taught;
  document.body.dataset.model = !model ? "waiting" : model.name === null ? "unknown" : "known";
  sayModel();
}

function sayModel() {
  $("model-name").textContent = t(`model.${document.body.dataset.model}`, model ?? {});
  const all = [...(model?.glosses ?? []).filter((gloss) => !own.includes(gloss)), ...own];
  const unknown = document.body.dataset.model === "unknown";
  $("signs-count").textContent = unknown ? t("signs.unknown") : t("signs.count", { n: all.length });
  $("signs-list").hidden = !all.length;
  $("signs-list").replaceChildren(
    ...all.map((gloss) => {
      const mine = own.includes(gloss);
      const item = element("li", { text: gloss, dataset: { gloss } });
      if (mine || model.enrolled.includes(gloss)) item.dataset.enrolled = mine ? "here" : "server";
      if (mine) item.append(element("small", { text: ` ${t("answer.own")}` }));
      return item;
    }),
  );
}

/**
 * Show an answer.
 *
 * @param {?object} next one of `readAnswers`; null takes the last one away
 * @param {number} clips how many were answered at once
 * @param {?number} fps frames a second of the clip, where that is known
 */
export function showAnswer(next, clips = 1, fps = null) {
  if (!answer && !next) return;
  answer = next;
  several = clips;
  slow = answer?.known === false && fps !== null && fps < MIN_FPS ? fps : null;
  $("answer").dataset.known = answer ? String(answer.known) : "none";
  $("answer").toggleAttribute("data-slow", slow !== null);
  sayAnswer();
  if (!answer) return;
  // On a phone both stand below the camera. What is scrolled to last is seen whole, however small the screen.
  for (const id of ["answer-list", "verdict"]) $(id).scrollIntoView({ block: "nearest" });
  count("answers");
}

function sayAnswer() {
  const best = answer?.instances[0];
  const verdict = slow !== null ? "answer.slow" : answer ? `answer.${answer.known}` : "answer.empty";
  const words = [t(verdict, { gloss: best?.gloss ?? "–", fps: rate(slow), min: MIN_FPS })];
  if (several > 1) words.push(t("answer.several", { n: several }));
  $("verdict").textContent = words.join(" ");
  $("answer-list").replaceChildren(
    ...(answer?.instances ?? []).map(({ gloss, score, index }) => {
      const bar = element("span", { className: "bar", ariaHidden: "true" });
      bar.style.setProperty("--share", Math.min(1, Math.max(0, score)));
      const name = element("span", { className: "gloss", text: gloss });
      if (own.includes(gloss)) name.append(element("small", { text: ` ${t("answer.own")}` }));
      const row = [name, element("span", { className: "score", text: percent(score) }), bar];
      return element("li", { dataset: { gloss, score, index } }, row);
    }),
  );
}

/** Show what is known of the times; what is not named stays as it is. */
export function showTimes(next) {
  Object.assign(times, next);
  sayTimes();
}

function sayTimes() {
  const language = currentLanguage();
  const write = (id, value, text) => {
    $(id).textContent = value === null ? "–" : text;
    $(id).dataset.value = value ?? "";
  };
  const middle = median(times.costs);
  const spoken = { median: duration(middle, language), slowest: duration(Math.max(...times.costs), language) };
  write("time-landmarks", middle, t("times.landmarks.value", spoken));
  write("time-request", times.request, duration(times.request, language));
  write("time-frames", times.frames, String(times.frames));
  write("time-fps", times.fps, rate(times.fps));
  write("sent-bytes", times.sent, size(times.sent ?? 0, language));
}

/** Show which inference runs. */
export function showEngine(next) {
  engine = next;
  sayEngine();
}

function sayEngine() {
  const values = engine && { mode: engine.mode.toUpperCase(), ms: duration(engine.timed, currentLanguage()), why: t(engine.why) };
  $("engine-text").textContent = values ? t("engine.value", values) : t("engine.none");
  $("engine-text").dataset.value = engine?.timed ?? "";
}

export function startResults() {
  for (const write of [sayModel, sayAnswer, sayTimes, sayEngine]) inWords(write);
}

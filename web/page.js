/** What every part of the page shares: elements, the language, messages and the page's state. */

import { choose, say } from "./i18n.js";

export const $ = (id) => document.getElementById(id);

/** Make an element; what is text stays text. */
export function element(tag, { text, dataset, ...properties } = {}, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) made.textContent = text;
  Object.assign(made.dataset, dataset);
  made.append(...children);
  return made;
}

/** Let a button be pressed, or not. It keeps the focus either way, which one that is `disabled` loses. */
export const allow = (id, can) => $(id).setAttribute("aria-disabled", String(!can));

/** Call `act` when a button is pressed that may be; once for a double click. */
export function pressed(id, act) {
  $(id).addEventListener("click", (event) => {
    if (event.detail < 2 && $(id).getAttribute("aria-disabled") !== "true") act();
  });
}

/** Storage that may be switched off in a browser: nothing is kept then. */
export function remembered(key, value) {
  try {
    if (value === undefined) return localStorage.getItem(`spoter.${key}`);
    localStorage.setItem(`spoter.${key}`, value);
  } catch {
    // the page works without
  }
  return null;
}

const asked = new URLSearchParams(location.search);
export const parameter = (name) => asked.get(name);

let language = choose([asked.get("lang"), remembered("language"), ...(navigator.languages ?? [navigator.language])]);
const written = new Set();

export const currentLanguage = () => language;
export const t = (key, values) => say(language, key, values);

/** Call `write` now and whenever the language changes. */
export function inWords(write) {
  written.add(write);
  write();
}

/** Say the whole page in a language, and remember it. */
export function setLanguage(wish) {
  language = wish;
  remembered("language", wish);
  sayAll();
}

/** Say all that the page says, in the language that is chosen. */
export function sayAll() {
  document.documentElement.lang = language;
  document.title = t("title");
  for (const one of document.querySelectorAll("[data-say]")) one.textContent = t(one.dataset.say);
  for (const one of document.querySelectorAll("[data-say-label]")) one.setAttribute("aria-label", t(one.dataset.sayLabel));
  for (const known of ["en", "es"]) $(`language-${known}`).setAttribute("aria-pressed", String(known === language));
  for (const write of written) write();
}

/** The page's state, which styles, tests and `onState` go by. */
const watchers = [];
export const state = () => document.body.dataset.state;
export function setState(next) {
  document.body.dataset.state = next;
  for (const watcher of watchers) watcher(next);
}
export const onState = (watcher) => watchers.push(watcher);

export function count(name) {
  document.body.dataset[name] = String(Number(document.body.dataset[name]) + 1);
}

/** Messages that are shown, by code. */
const shown = new Map();

/**
 * Show a message; one of the same code gives way.
 *
 * @param {"error"|"warning"|"info"} kind errors interrupt a screen reader, others wait
 * @param {string} code of a string `m.CODE`
 * @param {object} [values] of the string
 * @param {?{code: string, message: string, where: ?string}} [server] what the server said
 */
export function tell(kind, code, values = {}, server = null) {
  shown.get(code)?.remove();
  const text = element("p");
  const said = element("p", { className: "said" });
  const close = element("button", { type: "button", className: "close", text: "×" });
  const box = element("div", { className: "message", dataset: { code, kind } }, [element("div", {}, [text, said]), close]);
  if (server) box.dataset.serverCode = server.code;
  const write = () => {
    text.textContent = t(`m.${code}`, values);
    said.textContent = server ? `${t("server.said", server)} ${server.where ? t("server.where", server) : ""}` : "";
    close.setAttribute("aria-label", t("messages.close"));
  };
  const remove = () => {
    box.remove();
    written.delete(write);
    shown.delete(code);
  };
  close.addEventListener("click", () => {
    remove();
    $("record-button").focus();
  });
  inWords(write);
  shown.set(code, { remove, kind });
  $(kind === "error" ? "alerts" : "notes").append(box);
}

/** Take away messages: those of some codes, or all but the ones that stay true. */
export function untell(...codes) {
  const lasting = ["model_unknown", "endpoint_from_link", "no_webgl2", "no_wasm", "enrolled_unusable"];
  for (const [code, message] of [...shown]) {
    if (codes.length ? codes.includes(code) : !lasting.includes(code)) message.remove();
  }
}

/** Offer a text as a file. */
export function download(text, name) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Whether a person asked for less motion. */
export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

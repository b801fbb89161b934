/** Shared by all parts of the page: elements, the language, messages and the page's state. */

import { choose, translate } from "./i18n.js";

export const $ = (id) => document.getElementById(id);

/** Make an element; `text` is never parsed as HTML. */
export function element(tag, { text, dataset, ...properties } = {}, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) made.textContent = text;
  Object.assign(made.dataset, dataset);
  made.append(...children);
  return made;
}

/** Enable or disable a button with `aria-disabled`: unlike `disabled`, this keeps the focus. */
export const setEnabled = (id, enabled) => $(id).setAttribute("aria-disabled", String(!enabled));

/** Call `action` when an enabled button is pressed; once for a double click. */
export function onPress(id, action) {
  $(id).addEventListener("click", (event) => {
    if (event.detail < 2 && $(id).getAttribute("aria-disabled") !== "true") action();
  });
}

/** Return a setting, or store `value`. Browsers whose storage is switched off keep nothing. */
export function setting(key, value) {
  try {
    if (value === undefined) return localStorage.getItem(`spoter.${key}`);
    localStorage.setItem(`spoter.${key}`, value);
  } catch {
    // the page works without storage
  }
  return null;
}

const parameters = new URLSearchParams(location.search);
export const parameter = (name) => parameters.get(name);

let language = choose([parameters.get("lang"), setting("language"), ...(navigator.languages ?? [navigator.language])]);
const writers = new Set(); // functions that write text in the current language

export const currentLanguage = () => language;
export const t = (key, values) => translate(language, key, values);

/** Call `write` now and whenever the language changes. */
export function onLanguage(write) {
  writers.add(write);
  write();
}

/** Change the page's language, and store the choice. */
export function setLanguage(next) {
  language = next;
  setting("language", next);
  writeAll();
}

/** Write all texts of the page in the current language. */
export function writeAll() {
  document.documentElement.lang = language;
  document.title = t("title");
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = t(node.dataset.text);
  for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", t(node.dataset.label));
  for (const tag of ["en", "es"]) $(`language-${tag}`).setAttribute("aria-pressed", String(tag === language));
  for (const write of writers) write();
}

/** The page's state, which styles, tests and callbacks of `onState` depend on. */
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

/** The messages on the page, by code. */
const shown = new Map();

/**
 * Show a message in the place of a message with the same code.
 *
 * @param {"error"|"warning"|"info"} kind a screen reader reads errors at once, others later
 * @param {string} code the key of the string is `m.CODE`
 * @param {object} [values] replacements in the string
 * @param {?{code: string, message: string, where: ?string}} [server] the server's error
 */
export function showMessage(kind, code, values = {}, server = null) {
  shown.get(code)?.remove();
  const text = element("p");
  const serverText = element("p", { className: "said" });
  const close = element("button", { type: "button", className: "close", text: "×" });
  const box = element("div", { className: "message", dataset: { code, kind } }, [element("div", {}, [text, serverText]), close]);
  if (server) box.dataset.serverCode = server.code;
  const write = () => {
    text.textContent = t(`m.${code}`, values);
    serverText.textContent = server ? `${t("server.said", server)} ${server.where ? t("server.where", server) : ""}` : "";
    close.setAttribute("aria-label", t("messages.close"));
  };
  const remove = () => {
    box.remove();
    writers.delete(write);
    shown.delete(code);
  };
  close.addEventListener("click", () => {
    remove();
    $("record-button").focus();
  });
  onLanguage(write);
  shown.set(code, { remove, kind });
  $(kind === "error" ? "alerts" : "notes").append(box);
}

/** Remove the messages with some codes, or all except those that describe a lasting state. */
export function removeMessages(...codes) {
  const lasting = ["model_unknown", "endpoint_from_link", "no_webgl2", "no_wasm", "enrolled_unusable"];
  for (const [code, message] of [...shown]) {
    if (codes.length ? codes.includes(code) : !lasting.includes(code)) message.remove();
  }
}

/** Download a text as a file. */
export function download(text, name) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Return whether the user prefers less motion. */
export const prefersReducedMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Languages: which one, and its words. No DOM. */

import en from "./strings/en.js";
import es from "./strings/es.js";

export const LANGUAGES = { en, es };

/**
 * Choose a language.
 *
 * @param {Array<?string>} wishes tags such as "es-PE", the strongest first; null is none
 * @returns {"en"|"es"}
 */
export function choose(wishes) {
  for (const wish of wishes) {
    const language = String(wish ?? "").toLowerCase().split("-")[0];
    if (Object.hasOwn(LANGUAGES, language)) return language;
  }
  return "en";
}

/**
 * Say something.
 *
 * @param {string} language
 * @param {string} key
 * @param {object} [values] what stands in the place of `{name}`
 * @returns {string} the key itself where there is no such string, so that a slip is seen and not hidden
 */
export function say(language, key, values = {}) {
  const text = LANGUAGES[language]?.[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (Object.hasOwn(values, name) ? String(values[name]) : whole));
}

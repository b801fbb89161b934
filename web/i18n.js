/** Chooses the language and looks up its strings. No DOM. */

import en from "./strings/en.js";
import es from "./strings/es.js";

export const LANGUAGES = { en, es };

/**
 * Choose a language.
 *
 * @param {Array<?string>} preferences language tags such as "es-PE", the preferred one first; null is skipped
 * @returns {"en"|"es"}
 */
export function choose(preferences) {
  for (const tag of preferences) {
    const language = String(tag ?? "").toLowerCase().split("-")[0];
    if (Object.hasOwn(LANGUAGES, language)) return language;
  }
  return "en";
}

/**
 * Return a string in a language.
 *
 * @param {string} language
 * @param {string} key
 * @param {object} [values] replacements of `{name}`
 * @returns {string} the key itself if there is no such string, so that the mistake is visible
 */
export function translate(language, key, values = {}) {
  const text = LANGUAGES[language]?.[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (placeholder, name) => (Object.hasOwn(values, name) ? String(values[name]) : placeholder));
}

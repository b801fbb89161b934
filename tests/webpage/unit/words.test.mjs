import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import test from "node:test";

import { LANGUAGES, choose, translate } from "../../../web/i18n.js";
import { Recent, duration, framesPerSecond, median, size } from "../../../web/timing.js";

const WEB = new URL("../../../web/", import.meta.url);
const read = (name) => readFileSync(new URL(name, WEB), "utf8");
const placeholders = (text) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort();

test("both languages have the same keys, with the same placeholders", () => {
  const { en, es } = LANGUAGES;
  assert.deepEqual(Object.keys(es), Object.keys(en));
  for (const key of Object.keys(en)) {
    assert.ok(en[key].trim() && es[key].trim(), key);
    assert.deepEqual(placeholders(es[key]), placeholders(en[key]), key);
  }
});

test("every key that the page uses exists, and every key is used", () => {
  const scripts = readdirSync(WEB).filter((name) => name.endsWith(".js"));
  const all = ["index.html", ...scripts].map(read).join("\n");
  for (const [, key] of all.matchAll(/(?:data-(?:text|label)=|\bt\()"([\w.-]+)"/g)) assert.ok(key in LANGUAGES.en, key);
  const quoted = new Set([...all.matchAll(/["`]([\w.-]+)["`]/g)].map(([, text]) => text));
  const composed = /^(state|model|answer)\./; // the page composes these keys, for example from body[data-state]
  for (const key of Object.keys(LANGUAGES.en)) {
    assert.ok(quoted.has(key) || quoted.has(key.replace(/^m\./, "")) || composed.test(key), `${key} is not used`);
  }
});

test("choose returns the first available language", () => {
  assert.equal(choose([null, "fr-FR", "es-PE", "en"]), "es");
  assert.equal(choose(["EN-us"]), "en");
  assert.equal(choose([null, "fr", "constructor"]), "en");
});

test("values replace placeholders, and an unknown key is returned", () => {
  assert.equal(translate("en", "model.known", { name: "dgs11", version: 0 }), "Model dgs11 0");
  assert.equal(translate("en", "model.known", {}), "Model {name} {version}");
  assert.equal(translate("en", "no.such.key"), "no.such.key");
});

test("statistics of times", () => {
  assert.equal(median([]), null);
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  assert.equal(framesPerSecond([0, 40, 80, 120]), 25);
  assert.equal(framesPerSecond([0, 33.367, 66.733]), 29.97);
  assert.equal(framesPerSecond([5]), null);
  assert.equal(framesPerSecond([5, 5]), null);
  const recent = new Recent(3);
  for (const value of [100, 1, 2, 3]) recent.add(value);
  assert.deepEqual([recent.median, recent.count], [2, 3]);
});

test("durations and sizes are formatted in a language", () => {
  assert.deepEqual([duration(null, "en"), duration(4.26, "en"), duration(38.4, "en"), duration(1234, "es")], ["–", "4.3 ms", "38 ms", "1,2 s"]);
  assert.deepEqual([size(812, "en"), size(94_400, "en"), size(1_250_000, "es")], ["812 B", "94 kB", "1,3 MB"]);
});

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import test from "node:test";

import { LANGUAGES, choose, say } from "../../../web/i18n.js";
import { Recent, duration, framesPerSecond, median, size } from "../../../web/timing.js";

const WEB = new URL("../../../web/", import.meta.url);
const read = (name) => readFileSync(new URL(name, WEB), "utf8");
const holes = (text) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort();

test("both languages say the same things, with the same values in them", () => {
  const { en, es } = LANGUAGES;
  assert.deepEqual(Object.keys(es), Object.keys(en));
  for (const key of Object.keys(en)) {
    assert.ok(en[key].trim() && es[key].trim(), key);
    assert.deepEqual(holes(es[key]), holes(en[key]), key);
  }
});

test("every string that the page names is there, and every one that is there is named", () => {
  const scripts = readdirSync(WEB).filter((name) => name.endsWith(".js"));
  const all = ["index.html", ...scripts].map(read).join("\n");
  for (const [, key] of all.matchAll(/(?:data-say(?:-label)?=|\bt\()"([\w.-]+)"/g)) assert.ok(key in LANGUAGES.en, key);
  const quoted = new Set([...all.matchAll(/["`]([\w.-]+)["`]/g)].map(([, text]) => text));
  const made = /^(state|model|answer)\./; // put together in the page from what is so, such as body[data-state]
  for (const key of Object.keys(LANGUAGES.en)) {
    assert.ok(quoted.has(key) || quoted.has(key.replace(/^m\./, "")) || made.test(key), `${key} is said nowhere`);
  }
});

test("a language is chosen by the first wish that can be met", () => {
  assert.equal(choose([null, "fr-FR", "es-PE", "en"]), "es");
  assert.equal(choose(["EN-us"]), "en");
  assert.equal(choose([null, "fr", "constructor"]), "en");
});

test("values stand in their places, and a slip is seen", () => {
  assert.equal(say("en", "model.known", { name: "dgs11", version: 0 }), "Model dgs11 0");
  assert.equal(say("en", "model.known", {}), "Model {name} {version}");
  assert.equal(say("en", "no.such.key"), "no.such.key");
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

test("times and sizes for people", () => {
  assert.deepEqual([duration(null, "en"), duration(4.26, "en"), duration(38.4, "en"), duration(1234, "es")], ["–", "4.3 ms", "38 ms", "1,2 s"]);
  assert.deepEqual([size(812, "en"), size(94_400, "en"), size(1_250_000, "es")], ["812 B", "94 kB", "1,3 MB"]);
});

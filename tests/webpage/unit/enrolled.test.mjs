import assert from "node:assert/strict";
import test from "node:test";

import { EnrolledStore, advice } from "../../../web/enrolled.js";

class Memory {
  kept = new Map();
  getItem = (key) => this.kept.get(key) ?? null;
  setItem = (key, value) => this.kept.set(key, String(value));
  removeItem = (key) => this.kept.delete(key);
}
const made = (space, ...names) => ({ space, glosses: names.map((gloss) => ({ gloss, clips: 3, prototype: [1, 0] })) });

test("signs are kept for one model, and sent as the server made them", () => {
  const memory = new Memory();
  const store = new EnrolledStore(memory, "dgs11", "1.1");
  assert.equal(store.sent, null);
  store.add(made("s", "A"));
  store.add(made("s", "B"));
  assert.deepEqual(new EnrolledStore(memory, "dgs11", "1.1").sent, made("s", "A", "B"));
  assert.equal(new EnrolledStore(memory, "dgs11", "1.2").sent, null);
  assert.deepEqual(JSON.parse(store.text), made("s", "A", "B"));
});

test("a sign of the same name gives way, and all of another space do", () => {
  const store = new EnrolledStore(new Memory(), "m", "1");
  store.add(made("s", "A", "B"));
  store.add({ space: "s", glosses: [{ gloss: "A", clips: 5, prototype: [0, 1] }] });
  assert.deepEqual(store.glosses.map(({ gloss, clips }) => [gloss, clips]), [["B", 3], ["A", 5]]);
  store.unusable = true;
  store.add(made("other", "C"));
  assert.deepEqual(store.sent, made("other", "C"));
});

test("what the server refused is not sent, but stays", () => {
  const memory = new Memory();
  const store = new EnrolledStore(memory, "m", "1");
  store.add(made("s", "A"));
  store.unusable = true;
  assert.equal(store.sent, null);
  assert.deepEqual(store.names, ["A"]);
  store.remove("A");
  assert.equal(memory.kept.size, 0);
});

test("broken storage is none", () => {
  for (const text of ["no JSON", "null", "{}", '{"space": "s", "glosses": [{"gloss": 1}]}']) {
    const memory = new Memory();
    memory.getItem = () => text;
    assert.equal(new EnrolledStore(memory, "m", "1").sent, null);
  }
  const full = new Memory();
  full.setItem = () => {
    throw new Error("QuotaExceededError");
  };
  const store = new EnrolledStore(full, "m", "1");
  assert.throws(() => store.add(made("s", "A")));
  assert.deepEqual(store.sent, made("s", "A")); // until the page is closed
});

test("advice in words", () => {
  assert.deepEqual(advice({ agreement: 0.8, similarity: 0.1 }), ["teach.agree", "teach.apart"]);
  assert.deepEqual(advice({ agreement: 0.5, similarity: 0.9 }), ["teach.vary", "teach.alike"]);
  assert.deepEqual(advice({ agreement: 0.1, similarity: 0.1 }), ["teach.differ", "teach.apart"]);
});

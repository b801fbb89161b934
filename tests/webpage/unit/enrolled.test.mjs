import assert from "node:assert/strict";
import test from "node:test";

import { EnrolledStore, advice } from "../../../web/enrolled.js";

class Memory {
  items = new Map();
  getItem = (key) => this.items.get(key) ?? null;
  setItem = (key, value) => this.items.set(key, String(value));
  removeItem = (key) => this.items.delete(key);
}
const enrolled = (space, ...names) => ({ space, glosses: names.map((gloss) => ({ gloss, clips: 3, prototype: [1, 0] })) });

test("signs are kept for one model, and sent as the server returned them", () => {
  const memory = new Memory();
  const store = new EnrolledStore(memory, "dgs11", "1.1");
  assert.equal(store.toSend, null);
  store.add(enrolled("s", "A"));
  store.add(enrolled("s", "B"));
  assert.deepEqual(new EnrolledStore(memory, "dgs11", "1.1").toSend, enrolled("s", "A", "B"));
  assert.equal(new EnrolledStore(memory, "dgs11", "1.2").toSend, null);
  assert.deepEqual(JSON.parse(store.text), enrolled("s", "A", "B"));
});

test("new signs replace signs of the same name and signs of another space", () => {
  const store = new EnrolledStore(new Memory(), "m", "1");
  store.add(enrolled("s", "A", "B"));
  store.add({ space: "s", glosses: [{ gloss: "A", clips: 5, prototype: [0, 1] }] });
  assert.deepEqual(store.glosses.map(({ gloss, clips }) => [gloss, clips]), [["B", 3], ["A", 5]]);
  store.unusable = true;
  store.add(enrolled("other", "C"));
  assert.deepEqual(store.toSend, enrolled("other", "C"));
});

test("signs that the server refused are kept, but not sent", () => {
  const memory = new Memory();
  const store = new EnrolledStore(memory, "m", "1");
  store.add(enrolled("s", "A"));
  store.unusable = true;
  assert.equal(store.toSend, null);
  assert.deepEqual(store.names, ["A"]);
  store.remove("A");
  assert.equal(memory.items.size, 0);
});

test("broken storage counts as empty, and full storage keeps signs until the page is closed", () => {
  for (const text of ["no JSON", "null", "{}", '{"space": "s", "glosses": [{"gloss": 1}]}']) {
    const memory = new Memory();
    memory.getItem = () => text;
    assert.equal(new EnrolledStore(memory, "m", "1").toSend, null);
  }
  const fullStorage = new Memory();
  fullStorage.setItem = () => {
    throw new Error("QuotaExceededError");
  };
  const store = new EnrolledStore(fullStorage, "m", "1");
  assert.throws(() => store.add(enrolled("s", "A")));
  assert.deepEqual(store.toSend, enrolled("s", "A"));
});

test("advice depends on agreement and similarity", () => {
  assert.deepEqual(advice({ agreement: 0.8, similarity: 0.1 }), ["teach.agree", "teach.apart"]);
  assert.deepEqual(advice({ agreement: 0.5, similarity: 0.9 }), ["teach.vary", "teach.alike"]);
  assert.deepEqual(advice({ agreement: 0.1, similarity: 0.1 }), ["teach.differ", "teach.apart"]);
});

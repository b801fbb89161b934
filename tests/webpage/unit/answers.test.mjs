import assert from "node:assert/strict";
import test from "node:test";

import { LIMITS, kindOfFile, readAnswers, readError, readModel, trouble } from "../../../web/answers.js";
import { NECK } from "../../../web/layout.js";

const DESCRIBED = {
  name: "dgs11", version: "1.1", glosses: ["HALLO", "WELT", "MEIN"], enrolled: ["MEIN"],
  layout: { name: "54", landmarks: ["pose_nose", "pose_chest_middle_up"], mediapipe: [0, NECK] },
  tells_unknown: true, enrolment: true, limits: { max_frames: 100 },
};

test("a description is read, with limits that it does not name", () => {
  const model = readModel(DESCRIBED);
  assert.deepEqual(model.glosses, ["HALLO", "WELT", "MEIN"]);
  assert.deepEqual(model.layout, { name: "54", mediapipe: [0, NECK] });
  assert.deepEqual(model.limits, { ...LIMITS, max_frames: 100 });
  assert.equal(model.enrolment, true);
});

test("what is no description is none", () => {
  const bad = [
    null, {}, { error: {} }, { instances: [] }, { ...DESCRIBED, glosses: 3 }, { ...DESCRIBED, layout: {} },
    { ...DESCRIBED, layout: { name: "54", mediapipe: [] } }, { ...DESCRIBED, layout: { name: "54", mediapipe: ["0"] } },
  ];
  for (const body of bad) assert.equal(readModel(body), null);
});

test("answers, one or several, with errors in their places", () => {
  const one = { instances: [{ gloss: "HALLO", score: 0.9, index: 0 }], known: false, frames: 20 };
  assert.deepEqual(readAnswers(one), [one]);
  const error = { code: "no_frames", message: "found none", where: "clip 1" };
  assert.deepEqual(readAnswers({ answers: [{ error }, one] }), [{ error }, one]);
  assert.equal(readAnswers({ instances: one.instances })[0].known, null);
  for (const body of [null, {}, [], { answers: [] }, { instances: [{ gloss: "A" }] }]) assert.equal(readAnswers(body), null);
});

test("errors of every door", () => {
  const ours = { code: "wrong_layout", message: "found 71", where: "layout" };
  assert.deepEqual(readError(400, JSON.stringify({ error: ours })), ours);
  const torchserve = '{"code": 503, "type": "ServiceUnavailableException", "message": "busy"}';
  assert.deepEqual(readError(503, torchserve), { code: "ServiceUnavailableException", message: "busy", where: null });
  assert.deepEqual(readError(403, '{"message":"Forbidden"}'), { code: "http_403", message: "Forbidden", where: null });
  assert.deepEqual(readError(502, "<html>"), { code: "http_502", message: "", where: null });
});

test("what can be done depends on the status", () => {
  const kinds = [400, 413, 429, 503, 500, 502, 504].map(trouble);
  assert.deepEqual(kinds, [
    "server_refused", "server_refused", "server_busy", "server_busy", "server_failed", "server_down", "server_timeout",
  ]);
});

test("a file's kind is told by its name, else by its type", () => {
  assert.deepEqual(kindOfFile("a.JSON", ""), { kind: "landmarks", type: "application/json" });
  assert.deepEqual(kindOfFile("a.b.npy", "application/octet-stream"), { kind: "landmarks", type: "application/x-npy" });
  assert.deepEqual(kindOfFile("a.csv", "application/vnd.ms-excel"), { kind: "landmarks", type: "text/csv" });
  assert.deepEqual(kindOfFile("sign.MOV", ""), { kind: "video" });
  assert.deepEqual(kindOfFile("sign", "video/mp4"), { kind: "video" });
  assert.deepEqual(kindOfFile("sign.txt", "text/plain"), { kind: "unknown" });
});

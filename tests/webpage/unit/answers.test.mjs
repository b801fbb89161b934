import assert from "node:assert/strict";
import test from "node:test";

import { LIMITS, kindOfFile, readAnswers, readError, readModel, messageCode } from "../../../web/answers.js";
import { NECK } from "../../../web/layout.js";

const DESCRIBED = {
  name: "dgs11", version: "1.1", glosses: ["HALLO", "WELT", "MEIN"], enrolled: ["MEIN"],
  layout: { name: "54", landmarks: ["pose_nose", "pose_chest_middle_up"], mediapipe: [0, NECK] },
  tells_unknown: true, enrolment: true, limits: { max_frames: 100 },
};

test("readModel returns the description, with default limits for missing ones", () => {
  const model = readModel(DESCRIBED);
  assert.deepEqual(model.glosses, ["HALLO", "WELT", "MEIN"]);
  assert.deepEqual(model.layout, { name: "54", mediapipe: [0, NECK] });
  assert.deepEqual(model.limits, { ...LIMITS, max_frames: 100 });
  assert.equal(model.enrolment, true);
});

test("readModel returns null for other bodies", () => {
  const bad = [
    null, {}, { error: {} }, { instances: [] }, { ...DESCRIBED, glosses: 3 }, { ...DESCRIBED, layout: {} },
    { ...DESCRIBED, layout: { name: "54", mediapipe: [] } }, { ...DESCRIBED, layout: { name: "54", mediapipe: ["0"] } },
  ];
  for (const body of bad) assert.equal(readModel(body), null);
});

test("readAnswers returns one or several answers, and errors at their positions", () => {
  const answer = { instances: [{ gloss: "HALLO", score: 0.9, index: 0 }], known: false, frames: 20 };
  assert.deepEqual(readAnswers(answer), [answer]);
  const error = { code: "no_frames", message: "found none", where: "clip 1" };
  assert.deepEqual(readAnswers({ answers: [{ error }, answer] }), [{ error }, answer]);
  assert.equal(readAnswers({ instances: answer.instances })[0].known, null);
  for (const body of [null, {}, [], { answers: [] }, { instances: [{ gloss: "A" }] }]) assert.equal(readAnswers(body), null);
});

test("readError parses the errors of SPOTER, TorchServe, API Gateway and proxies", () => {
  const error = { code: "wrong_layout", message: "found 71", where: "layout" };
  assert.deepEqual(readError(400, JSON.stringify({ error })), error);
  const torchserve = '{"code": 503, "type": "ServiceUnavailableException", "message": "busy"}';
  assert.deepEqual(readError(503, torchserve), { code: "ServiceUnavailableException", message: "busy", where: null });
  assert.deepEqual(readError(403, '{"message":"Forbidden"}'), { code: "http_403", message: "Forbidden", where: null });
  assert.deepEqual(readError(502, "<html>"), { code: "http_502", message: "", where: null });
});

test("messageCode depends on the status", () => {
  const kinds = [400, 413, 429, 503, 500, 502, 504].map(messageCode);
  assert.deepEqual(kinds, [
    "server_refused", "server_refused", "server_busy", "server_busy", "server_failed", "server_down", "server_timeout",
  ]);
});

test("kindOfFile uses the name's extension, then the media type", () => {
  assert.deepEqual(kindOfFile("a.JSON", ""), { kind: "landmarks", type: "application/json" });
  assert.deepEqual(kindOfFile("a.b.npy", "application/octet-stream"), { kind: "landmarks", type: "application/x-npy" });
  assert.deepEqual(kindOfFile("a.csv", "application/vnd.ms-excel"), { kind: "landmarks", type: "text/csv" });
  assert.deepEqual(kindOfFile("sign.MOV", ""), { kind: "video" });
  assert.deepEqual(kindOfFile("sign", "video/mp4"), { kind: "video" });
  assert.deepEqual(kindOfFile("sign.txt", "text/plain"), { kind: "unknown" });
});

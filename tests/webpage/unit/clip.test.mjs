import assert from "node:assert/strict";
import test from "node:test";

import { Clip, check, compact, complete, question, readClip } from "../../../web/clip.js";
import { ALL_POINTS, LAYOUT_54, PARTS } from "../../../web/layout.js";

const SIZE = { width: 640, height: 480 };

/** Frames at 25 a second with shoulders, and a left hand that moves to the right. */
function signing(length, parts = ["leftHand"]) {
  const frames = Array.from({ length }, (_, t) => {
    const frame = new Array(ALL_POINTS).fill(null);
    frame[11] = [0.6, 0.5];
    frame[12] = [0.4, 0.5];
    for (const part of parts) frame[PARTS[part].start] = [0.1 + t / 1000, 0.123456789];
    return frame;
  });
  return new Clip(frames, frames.map((_, t) => 40 * t), SIZE, "camera", frames.map(() => 30));
}

test("the compact form has the layout's points in its order, unmirrored, with the measured rate", () => {
  const body = compact(signing(10), LAYOUT_54);
  assert.equal(body.layout, "54");
  assert.equal(body.fps, 25);
  assert.equal(body.points.length, 10);
  assert.equal(body.points[3].length, 54);
  assert.deepEqual(body.points[3][LAYOUT_54.mediapipe.indexOf(11)], [0.6, 0.5]);
  assert.deepEqual(body.points[3][LAYOUT_54.mediapipe.indexOf(501)], [0.103, 0.12346]);
  assert.deepEqual(body.points[3].at(-1), [0.5, 0.5]);
  assert.equal(body.points[3][0], null);
});

test("a point that is there never rounds to x 0, which is not normalized", () => {
  const clip = signing(4);
  [4e-6, -4e-6, 0, 6e-6].forEach((x, t) => (clip.frames[t][11] = [x, x]));
  const column = LAYOUT_54.mediapipe.indexOf(11);
  const written = [1e-5, -1e-5, 0, 1e-5];
  assert.deepEqual(compact(clip, LAYOUT_54).points.map((points) => points[column]), written.map((x) => [x, x]));
  assert.deepEqual(complete(clip).points.map((points) => points[11]), written.map((x) => [x, x]));
});

test("a question brings the signs that were taught, and nothing where there are none", () => {
  const enrolled = { space: "s", glosses: [] };
  assert.deepEqual(JSON.parse(question(signing(4), LAYOUT_54, 5, enrolled)).enrolled, enrolled);
  assert.deepEqual(Object.keys(JSON.parse(question(signing(4), LAYOUT_54, 5))), ["layout", "fps", "points", "top_k"]);
});

test("what was downloaded is read again", () => {
  const clip = signing(6);
  for (const body of [complete(clip), compact(clip, LAYOUT_54)]) {
    const again = readClip(JSON.stringify(body), LAYOUT_54);
    assert.deepEqual(compact(again, LAYOUT_54), compact(clip, LAYOUT_54));
  }
  const whole = readClip(JSON.stringify(complete(clip)), LAYOUT_54);
  assert.deepEqual([whole.width, whole.height, whole.fps, whole.source], [640, 480, 25, "file"]);
});

test("other forms are left to the server", () => {
  const points = compact(signing(4), LAYOUT_54).points;
  const others = [
    "no JSON", "null", "[]", "{}", '{"points": []}', '{"keypoints": []}', JSON.stringify({ points }),
    JSON.stringify({ layout: "71", points }), JSON.stringify({ layout: "54", points: [[null]] }),
    JSON.stringify({ layout: "54", points: [new Array(54).fill([400, 300])] }),
  ];
  for (const text of others) assert.equal(readClip(text, LAYOUT_54), null, text.slice(0, 40));
});

test("a frame that is null is a frame without anybody", () => {
  const clip = readClip(JSON.stringify({ layout: 54, points: [null, compact(signing(1), LAYOUT_54).points[0]] }), LAYOUT_54);
  assert.equal(clip.frames.length, 2);
  assert.ok(clip.frames[0].every((point) => point === null));
});

test("frames between two moments", () => {
  const clip = signing(10);
  assert.deepEqual(clip.between(75, 200).times, [80, 120, 160, 200]);
  assert.deepEqual(clip.between(-500, 9000).times, clip.times);
  assert.equal(clip.between(75, 200).costs.length, 4);
  assert.equal(clip.between(1000, 2000).frames.length, 0);
});

test("what keeps a clip from being asked about", () => {
  const limits = { max_frames: 20 };
  assert.deepEqual(check(signing(10), limits), { errors: [], warnings: [] });
  assert.deepEqual(check(signing(3), limits).errors, ["clip_too_short"]);
  assert.deepEqual(check(signing(21), limits).errors, ["clip_too_long"]);
  assert.deepEqual(check(signing(10, []), limits).warnings, ["hands_never_seen"]);
  const nobody = new Clip(signing(10).frames.map(() => new Array(ALL_POINTS).fill(null)), signing(10).times, SIZE, "camera");
  assert.deepEqual(check(nobody, limits).errors, ["no_person"]);
});

test("a clip of one moment has no rate", () => {
  assert.equal(signing(1).fps, null);
  assert.equal("fps" in compact(signing(1), LAYOUT_54), false);
});

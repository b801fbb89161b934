import assert from "node:assert/strict";
import test from "node:test";

import { Clip, check, compact, complete, readClip, requestBody } from "../../../web/clip.js";
import { ALL_POINTS, LAYOUT_54, PARTS } from "../../../web/layout.js";

const SIZE = { width: 640, height: 480 };

/** A clip at 25 frames per second with shoulders, and the first points of `parts` that move to the right. */
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

test("the compact form has the layout's points in its order, unmirrored, with the measured frame rate", () => {
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

test("x of a found point never rounds to 0, because points with x = 0 are not normalized", () => {
  const clip = signing(4);
  [4e-6, -4e-6, 0, 6e-6].forEach((x, t) => (clip.frames[t][11] = [x, x]));
  const column = LAYOUT_54.mediapipe.indexOf(11);
  const rounded = [1e-5, -1e-5, 0, 1e-5];
  assert.deepEqual(compact(clip, LAYOUT_54).points.map((points) => points[column]), rounded.map((x) => [x, x]));
  assert.deepEqual(complete(clip).points.map((points) => points[11]), rounded.map((x) => [x, x]));
});

test("a request contains the taught signs, if there are any", () => {
  const enrolled = { space: "s", glosses: [] };
  assert.deepEqual(JSON.parse(requestBody(signing(4), LAYOUT_54, 5, enrolled)).enrolled, enrolled);
  assert.deepEqual(Object.keys(JSON.parse(requestBody(signing(4), LAYOUT_54, 5))), ["layout", "fps", "points", "top_k"]);
});

test("readClip reads downloaded clips", () => {
  const clip = signing(6);
  for (const body of [complete(clip), compact(clip, LAYOUT_54)]) {
    const parsed = readClip(JSON.stringify(body), LAYOUT_54);
    assert.deepEqual(compact(parsed, LAYOUT_54), compact(clip, LAYOUT_54));
  }
  const fromComplete = readClip(JSON.stringify(complete(clip)), LAYOUT_54);
  assert.deepEqual([fromComplete.width, fromComplete.height, fromComplete.fps, fromComplete.source], [640, 480, 25, "file"]);
});

test("readClip returns null for forms that only the server reads", () => {
  const points = compact(signing(4), LAYOUT_54).points;
  const others = [
    "no JSON", "null", "[]", "{}", '{"points": []}', '{"keypoints": []}', JSON.stringify({ points }),
    JSON.stringify({ layout: "71", points }), JSON.stringify({ layout: "54", points: [[null]] }),
    JSON.stringify({ layout: "54", points: [new Array(54).fill([400, 300])] }),
  ];
  for (const text of others) assert.equal(readClip(text, LAYOUT_54), null, text.slice(0, 40));
});

test("readClip reads a frame that is null as a frame without a person", () => {
  const clip = readClip(JSON.stringify({ layout: 54, points: [null, compact(signing(1), LAYOUT_54).points[0]] }), LAYOUT_54);
  assert.equal(clip.frames.length, 2);
  assert.ok(clip.frames[0].every((point) => point === null));
});

test("between returns the frames between two times", () => {
  const clip = signing(10);
  assert.deepEqual(clip.between(75, 200).times, [80, 120, 160, 200]);
  assert.deepEqual(clip.between(-500, 9000).times, clip.times);
  assert.equal(clip.between(75, 200).durations.length, 4);
  assert.equal(clip.between(1000, 2000).frames.length, 0);
});

test("check finds clips that are not worth sending", () => {
  const limits = { max_frames: 20 };
  assert.deepEqual(check(signing(10), limits), { errors: [], warnings: [] });
  assert.deepEqual(check(signing(3), limits).errors, ["clip_too_short"]);
  assert.deepEqual(check(signing(21), limits).errors, ["clip_too_long"]);
  assert.deepEqual(check(signing(10, []), limits).warnings, ["hands_never_seen"]);
  const empty = new Clip(signing(10).frames.map(() => new Array(ALL_POINTS).fill(null)), signing(10).times, SIZE, "camera");
  assert.deepEqual(check(empty, limits).errors, ["no_person"]);
});

test("a clip of one frame has no frame rate", () => {
  assert.equal(signing(1).fps, null);
  assert.equal("fps" in compact(signing(1), LAYOUT_54), false);
});

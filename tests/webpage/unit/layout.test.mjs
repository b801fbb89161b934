import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { ALL_POINTS, LAYOUT_54, NECK, PARTS, frameOfResults, has, select } from "../../../web/layout.js";

test("the default layout is the package's table points_54.csv", () => {
  const table = readFileSync(new URL("../../../spoter/landmarks/tables/points_54.csv", import.meta.url), "utf8");
  const [head, ...rows] = table.trim().split(/\r?\n/).map((row) => row.split(","));
  const column = head.indexOf("mediapipe");
  assert.deepEqual(LAYOUT_54.mediapipe, rows.map((row) => Number(row[column])));
});

test("a frame has 543 points, with null for parts that were not found", () => {
  const hand = Array.from({ length: 21 }, (_, i) => ({ x: i / 100, y: 0.5, z: 1 }));
  const frame = frameOfResults({ rightHandLandmarks: hand });
  assert.equal(frame.length, ALL_POINTS);
  assert.deepEqual(frame[PARTS.rightHand.start + 20], [0.2, 0.5]);
  assert.equal(frame[0], null);
  assert.equal(has(frame, "rightHand"), true);
  assert.equal(has(frame, "leftHand"), false);
});

test("a face with refined irises is cut to 468 points, and NaN becomes null", () => {
  const face = Array.from({ length: 478 }, (_, i) => ({ x: i === 3 ? NaN : 0.5, y: 0.5 }));
  const frame = frameOfResults({ faceLandmarks: face });
  assert.equal(frame[PARTS.face.start + 3], null);
  assert.deepEqual(frame[PARTS.face.start + 467], [0.5, 0.5]);
  assert.equal(frame[PARTS.leftHand.start], null);
});

test("the neck is the mean of the shoulders, and null if one of them is missing", () => {
  const frame = new Array(ALL_POINTS).fill(null);
  frame[11] = [0.6, 0.4];
  assert.deepEqual(select(frame, [11, NECK, null]), [[0.6, 0.4], null, null]);
  frame[12] = [0.4, 0.5];
  assert.deepEqual(select(frame, [NECK]), [[0.5, 0.45]]);
});

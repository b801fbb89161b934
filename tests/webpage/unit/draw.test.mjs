import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { COLORS, drawFrame } from "../../../web/draw.js";
import { ALL_POINTS, PARTS, POSE } from "../../../web/layout.js";

/** Draw a frame with a stub of a canvas context; return the colors of strokes and fills, and the number of dashed lines. */
function draw(frame) {
  const calls = { strokes: [], fills: [], dashed: 0 };
  const context = {
    canvas: { width: 640, height: 480 },
    beginPath() {}, moveTo() {}, lineTo() {}, arc() {}, rect() {},
    setLineDash: (dashes) => {
      calls.dashed += dashes.length ? 1 : 0;
    },
    stroke: () => calls.strokes.push(context.strokeStyle),
    fill: () => calls.fills.push(context.fillStyle),
  };
  drawFrame(context, frame);
  return calls;
}

function person(...hands) {
  const frame = new Array(ALL_POINTS).fill(null);
  for (const [i, x] of [[POSE.leftWrist, 0.7], [POSE.rightWrist, 0.3]]) frame[i] = [x, 0.5];
  for (const hand of hands) for (let i = 0; i < PARTS[hand].size; i += 1) frame[PARTS[hand].start + i] = [0.5, i / 30];
  return frame;
}

test("each hand has its color, and a missing hand is a dashed ring", () => {
  assert.deepEqual(draw(person("leftHand", "rightHand")).fills, [COLORS.leftHand, COLORS.rightHand]);
  assert.equal(draw(person("leftHand", "rightHand")).dashed, 0);
  const rightOnly = draw(person("rightHand"));
  assert.deepEqual([rightOnly.fills, rightOnly.dashed], [[COLORS.rightHand], 1]);
  assert.ok(rightOnly.strokes.includes(COLORS.leftHand));
  assert.equal(draw(person()).dashed, 2);
});

test("a frame without a person draws nothing", () => {
  assert.deepEqual(draw(null), { strokes: [], fills: [], dashed: 0 });
  assert.deepEqual([draw(new Array(ALL_POINTS).fill(null)).fills, draw(new Array(ALL_POINTS).fill(null)).dashed], [[], 0]);
});

test("the legend has the skeleton's colors", () => {
  const style = readFileSync(new URL("../../../web/style.css", import.meta.url), "utf8");
  for (const [name, part] of [["left", "leftHand"], ["right", "rightHand"], ["body", "body"]]) {
    assert.equal(style.match(new RegExp(`--${name}: (#\\w+)`))[1], COLORS[part]);
  }
});

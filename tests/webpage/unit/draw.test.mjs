import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { COLOURS, drawFrame } from "../../../web/draw.js";
import { ALL_POINTS, PARTS, POSE } from "../../../web/layout.js";

/** Stands in for a canvas, which Node has not: notes in which colour what was drawn, and how often in dashes. */
function drawn(frame) {
  const made = { strokes: [], fills: [], dashed: 0 };
  const context = {
    canvas: { width: 640, height: 480 },
    beginPath() {}, moveTo() {}, lineTo() {}, arc() {}, rect() {},
    setLineDash: (dashes) => {
      made.dashed += dashes.length ? 1 : 0;
    },
    stroke: () => made.strokes.push(context.strokeStyle),
    fill: () => made.fills.push(context.fillStyle),
  };
  drawFrame(context, frame);
  return made;
}

function person(...hands) {
  const frame = new Array(ALL_POINTS).fill(null);
  for (const [i, x] of [[POSE.leftWrist, 0.7], [POSE.rightWrist, 0.3]]) frame[i] = [x, 0.5];
  for (const hand of hands) for (let i = 0; i < PARTS[hand].size; i += 1) frame[PARTS[hand].start + i] = [0.5, i / 30];
  return frame;
}

test("each hand has its colour, and a missing one is a ring of dashes", () => {
  assert.deepEqual(drawn(person("leftHand", "rightHand")).fills, [COLOURS.leftHand, COLOURS.rightHand]);
  assert.equal(drawn(person("leftHand", "rightHand")).dashed, 0);
  const one = drawn(person("rightHand"));
  assert.deepEqual([one.fills, one.dashed], [[COLOURS.rightHand], 1]);
  assert.ok(one.strokes.includes(COLOURS.leftHand));
  assert.equal(drawn(person()).dashed, 2);
});

test("nothing is drawn of nobody", () => {
  assert.deepEqual(drawn(null), { strokes: [], fills: [], dashed: 0 });
  assert.deepEqual([drawn(new Array(ALL_POINTS).fill(null)).fills, drawn(new Array(ALL_POINTS).fill(null)).dashed], [[], 0]);
});

test("the legend's colours are the skeleton's", () => {
  const style = readFileSync(new URL("../../../web/style.css", import.meta.url), "utf8");
  for (const [name, part] of [["left", "leftHand"], ["right", "rightHand"], ["body", "body"]]) {
    assert.equal(style.match(new RegExp(`--${name}: (#\\w+)`))[1], COLOURS[part]);
  }
});

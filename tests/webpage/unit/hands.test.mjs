import assert from "node:assert/strict";
import test from "node:test";

import { Clip } from "../../../web/clip.js";
import { DOWN_MS, HandWatch, MARGIN_MS, STILL, UP_MS, cutRest, wristDepth } from "../../../web/hands.js";
import { ALL_POINTS } from "../../../web/layout.js";

const DOWN = 1.6;
const UP = 0.3;
const BETWEEN = 1.05;

/** Return the events of a watch for frames every 40 ms. */
function eventsOf(depths, watch = new HandWatch()) {
  return depths.map((depth, i) => watch.update(depth, 40 * i)).filter(Boolean);
}
const hold = (depth, ms) => new Array(Math.ceil(ms / 40) + 1).fill(depth);

test("hands that rise and fall are one sign, which starts a margin earlier", () => {
  const rest = hold(DOWN, 400);
  const sign = hold(UP, 1000);
  const [start, end, ...more] = eventsOf([...rest, ...sign, ...hold(DOWN, 1000)]);
  assert.equal(start.event, "start");
  assert.equal(start.from, 40 * (rest.length - 1) - MARGIN_MS); // a margin before the last frame with lowered hands
  assert.equal(end.event, "end");
  assert.deepEqual(more, []);
});

test("no sign starts before the hands were lowered", () => {
  assert.deepEqual(eventsOf(hold(UP, 2000)), []);
  assert.deepEqual(eventsOf([...hold(UP, 500), ...hold(null, 500), ...hold(UP, 500)]), []);
});

test("a twitch starts no sign, and a short pause ends none", () => {
  assert.deepEqual(eventsOf([...hold(DOWN, 400), UP, UP, ...hold(DOWN, 400)]), []);
  assert.ok(80 < UP_MS);
  const pause = new Array(Math.floor(DOWN_MS / 40) - 1).fill(DOWN);
  const events = eventsOf([...hold(DOWN, 400), ...hold(UP, 500), ...pause, ...hold(UP, 500)]);
  assert.deepEqual(events.map(({ event }) => event), ["start"]);
});

test("hands between the two thresholds keep their state", () => {
  assert.deepEqual(eventsOf([...hold(DOWN, 400), ...hold(BETWEEN, 2000)]), []);
  const events = eventsOf([...hold(DOWN, 400), ...hold(UP, 400), ...hold(BETWEEN, 2000)]);
  assert.deepEqual(events.map(({ event }) => event), ["start"]);
});

test("leaving the picture ends the sign, and the next one needs lowered hands first", () => {
  const watch = new HandWatch();
  const events = eventsOf([...hold(DOWN, 400), ...hold(UP, 400), ...hold(null, 600)], watch);
  assert.deepEqual(events.map(({ event }) => event), ["start", "end"]);
  assert.equal(watch.state, "away");
});

test("a low frame rate does not lose the start of a sign", () => {
  const watch = new HandWatch();
  const frames = [[DOWN, 0], [DOWN, 700], [UP, 1400], [UP, 2100]];
  const [start] = frames.map(([depth, time]) => watch.update(depth, time)).filter(Boolean);
  assert.deepEqual(start, { event: "start", from: 700 - MARGIN_MS });
});

test("a watch that starts in the state down starts a sign at once", () => {
  const events = eventsOf([...hold(UP, 400), ...hold(DOWN, 800)], new HandWatch("down"));
  assert.deepEqual(events.map(({ event }) => event), ["start", "end"]);
});

test("depth is measured in shoulder widths for every aspect ratio", () => {
  const frame = new Array(ALL_POINTS).fill(null);
  assert.equal(wristDepth(frame, 1), null);
  frame[11] = [0.6, 0.4];
  frame[12] = [0.4, 0.4];
  assert.equal(wristDepth(frame, 1), null);
  frame[15] = [0.6, 0.7];
  assert.ok(Math.abs(wristDepth(frame, 1) - 1.5) < 1e-9);
  assert.ok(Math.abs(wristDepth(frame, 2) - 0.75) < 1e-9);
  frame[16] = [0.4, 0.3]; // the higher hand counts
  assert.ok(Math.abs(wristDepth(frame, 1) + 0.5) < 1e-9);
  frame[12] = [0.599, 0.4]; // seen from the side
  assert.equal(wristDepth(frame, 1), null);
});

/** A clip at 25 frames per second of a person with the right wrist at these depths and the left hand hanging down. */
function signing(depths) {
  const frames = depths.map((depth) => {
    const frame = new Array(ALL_POINTS).fill(null);
    [frame[11], frame[12], frame[15]] = [[0.6, 0.4], [0.4, 0.4], [0.6, 0.4 + 0.2 * DOWN]];
    if (depth !== null) frame[16] = [0.4, 0.4 + 0.2 * depth];
    return frame;
  });
  return new Clip(frames, frames.map((_, i) => 40 * i), { width: 480, height: 480 }, "camera", frames.map(() => 30));
}
const MARGIN = MARGIN_MS / 40; // frames of rest that are kept at each end

test("lowered hands before and after a sign are cut off, except for a margin", () => {
  const [rest, sign, after] = [hold(DOWN, 1000), hold(UP, 400), hold(DOWN, 1200)];
  const uncut = signing([...rest, ...sign, BETWEEN, ...after]);
  const clip = cutRest(uncut);
  assert.equal(clip.times[0], 40 * (rest.length - MARGIN));
  assert.equal(clip.times.at(-1), 40 * (rest.length + sign.length + MARGIN));
  assert.equal(clip.frames.length, clip.durations.length);
  assert.equal(clip.uncut, uncut);
});

test("hands that rest in front of the belly are cut off because they are still", () => {
  const belly = (ms) => hold(0.9, ms).map((depth, i) => depth + 0.8 * STILL * (i % 2)); // hands at rest move a little
  const [rest, sign, after] = [belly(1000), hold(UP, 400), belly(1200)];
  const clip = cutRest(signing([...rest, ...sign, ...after]));
  assert.equal(clip.times[0], 40 * (rest.length - MARGIN));
  assert.equal(clip.times.at(-1), 40 * (rest.length + sign.length + MARGIN - 1));
});

test("a hand that reaches for the button counts as lowered", () => {
  const [sign, reach] = [hold(UP, 400), [...hold(DOWN, 800), ...hold(1.2, 400), ...hold(DOWN, 400)]];
  assert.equal(cutRest(signing([...sign, ...reach])).frames.length, sign.length + MARGIN);
});

test("a clip without rest at its ends is not cut, even with pauses and frames without a person", () => {
  const all = signing([...hold(UP, 360), ...hold(DOWN, 400), null, null, ...hold(DOWN, 400), ...hold(UP, 360)]);
  assert.equal(cutRest(all).frames.length, all.frames.length);
  const held = signing(hold(UP, 800));
  assert.equal(cutRest(held).frames.length, held.frames.length);
  const once = signing([...hold(0.9, 1200), ...hold(UP, 1200)]); // one move: either place may belong to the sign
  assert.equal(cutRest(once).frames.length, once.frames.length);
});

test("cutRest returns null if no hand is raised", () => {
  assert.equal(cutRest(signing([...hold(DOWN, 400), BETWEEN, ...hold(DOWN, 400)])), null);
  assert.equal(cutRest(new Clip([new Array(ALL_POINTS).fill(null)], [0], { width: 4, height: 3 }, "video")), null);
});

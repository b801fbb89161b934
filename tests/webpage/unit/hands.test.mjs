import assert from "node:assert/strict";
import test from "node:test";

import { Clip } from "../../../web/clip.js";
import { DOWN_MS, HandWatch, MARGIN_MS, STILL, UP_MS, depth, withoutRest } from "../../../web/hands.js";
import { ALL_POINTS } from "../../../web/layout.js";

const DOWN = 1.6;
const UP = 0.3;
const BETWEEN = 1.05;

/** What the watch says of depths that come every 40 ms. */
function watched(depths, watch = new HandWatch()) {
  return depths.map((below, i) => watch.see(below, 40 * i)).filter(Boolean);
}
const hold = (below, ms) => new Array(Math.ceil(ms / 40) + 1).fill(below);

test("hands that rise and fall are one sign, which began a margin before", () => {
  const rest = hold(DOWN, 400);
  const sign = hold(UP, 1000);
  const [start, end, ...more] = watched([...rest, ...sign, ...hold(DOWN, 1000)]);
  assert.equal(start.event, "start");
  assert.equal(start.from, 40 * (rest.length - 1) - MARGIN_MS); // from the last frame that shows them down
  assert.equal(end.event, "end");
  assert.deepEqual(more, []);
});

test("nothing starts before the hands were down", () => {
  assert.deepEqual(watched(hold(UP, 2000)), []);
  assert.deepEqual(watched([...hold(UP, 500), ...hold(null, 500), ...hold(UP, 500)]), []);
});

test("a twitch is no sign, and a short rest ends none", () => {
  assert.deepEqual(watched([...hold(DOWN, 400), UP, UP, ...hold(DOWN, 400)]), []);
  assert.ok(80 < UP_MS);
  const pause = new Array(Math.floor(DOWN_MS / 40) - 1).fill(DOWN);
  const events = watched([...hold(DOWN, 400), ...hold(UP, 500), ...pause, ...hold(UP, 500)]);
  assert.deepEqual(events.map(({ event }) => event), ["start"]);
});

test("hands that waver between the two heights keep the state they are in", () => {
  assert.deepEqual(watched([...hold(DOWN, 400), ...hold(BETWEEN, 2000)]), []);
  const events = watched([...hold(DOWN, 400), ...hold(UP, 400), ...hold(BETWEEN, 2000)]);
  assert.deepEqual(events.map(({ event }) => event), ["start"]);
});

test("who leaves the picture has ended, and has to come back with hands down", () => {
  const watch = new HandWatch();
  const events = watched([...hold(DOWN, 400), ...hold(UP, 400), ...hold(null, 600)], watch);
  assert.deepEqual(events.map(({ event }) => event), ["start", "end"]);
  assert.equal(watch.state, "away");
});

test("a slow look misses no beginning", () => {
  const watch = new HandWatch();
  const looks = [[DOWN, 0], [DOWN, 700], [UP, 1400], [UP, 2100]];
  const [start] = looks.map(([below, time]) => watch.see(below, time)).filter(Boolean);
  assert.deepEqual(start, { event: "start", from: 700 - MARGIN_MS });
});

test("who is known to have had the hands down may begin at once", () => {
  const events = watched([...hold(UP, 400), ...hold(DOWN, 800)], new HandWatch("down"));
  assert.deepEqual(events.map(({ event }) => event), ["start", "end"]);
});

test("depth is measured in widths of the shoulders, whatever the picture's shape", () => {
  const frame = new Array(ALL_POINTS).fill(null);
  assert.equal(depth(frame, 1), null);
  frame[11] = [0.6, 0.4];
  frame[12] = [0.4, 0.4];
  assert.equal(depth(frame, 1), null);
  frame[15] = [0.6, 0.7];
  assert.ok(Math.abs(depth(frame, 1) - 1.5) < 1e-9);
  assert.ok(Math.abs(depth(frame, 2) - 0.75) < 1e-9);
  frame[16] = [0.4, 0.3]; // the higher hand counts
  assert.ok(Math.abs(depth(frame, 1) + 0.5) < 1e-9);
  frame[12] = [0.599, 0.4]; // from the side
  assert.equal(depth(frame, 1), null);
});

/** A clip at 25 frames a second of somebody whose right wrist is at these depths; the left one hangs down. */
function signing(depths) {
  const frames = depths.map((below) => {
    const frame = new Array(ALL_POINTS).fill(null);
    [frame[11], frame[12], frame[15]] = [[0.6, 0.4], [0.4, 0.4], [0.6, 0.4 + 0.2 * DOWN]];
    if (below !== null) frame[16] = [0.4, 0.4 + 0.2 * below];
    return frame;
  });
  return new Clip(frames, frames.map((_, i) => 40 * i), { width: 480, height: 480 }, "camera", frames.map(() => 30));
}
const KEPT = MARGIN_MS / 40; // frames of rest that stay at either end

test("lowered hands before and after a sign are left out, but for a margin", () => {
  const [rest, sign, after] = [hold(DOWN, 1000), hold(UP, 400), hold(DOWN, 1200)];
  const whole = signing([...rest, ...sign, BETWEEN, ...after]);
  const clip = withoutRest(whole);
  assert.equal(clip.times[0], 40 * (rest.length - KEPT));
  assert.equal(clip.times.at(-1), 40 * (rest.length + sign.length + KEPT));
  assert.equal(clip.frames.length, clip.costs.length);
  assert.equal(clip.whole, whole);
});

test("hands that rest folded before the belly are left out as well: they are still", () => {
  const belly = (ms) => hold(0.9, ms).map((below, i) => below + 0.8 * STILL * (i % 2)); // nobody is quite still
  const [rest, sign, after] = [belly(1000), hold(UP, 400), belly(1200)];
  const clip = withoutRest(signing([...rest, ...sign, ...after]));
  assert.equal(clip.times[0], 40 * (rest.length - KEPT));
  assert.equal(clip.times.at(-1), 40 * (rest.length + sign.length + KEPT - 1));
});

test("a hand that reaches for the button is lowered", () => {
  const [sign, reach] = [hold(UP, 400), [...hold(DOWN, 800), ...hold(1.2, 400), ...hold(DOWN, 400)]];
  assert.equal(withoutRest(signing([...sign, ...reach])).frames.length, sign.length + KEPT);
});

test("what is all sign stays whole, pauses within and frames without anybody too", () => {
  const all = signing([...hold(UP, 360), ...hold(DOWN, 400), null, null, ...hold(DOWN, 400), ...hold(UP, 360)]);
  assert.equal(withoutRest(all).frames.length, all.frames.length);
  const held = signing(hold(UP, 800));
  assert.equal(withoutRest(held).frames.length, held.frames.length);
  const once = signing([...hold(0.9, 1200), ...hold(UP, 1200)]); // from one place to another: either may be the sign
  assert.equal(withoutRest(once).frames.length, once.frames.length);
});

test("where no hand is raised, nothing tells what is rest", () => {
  assert.equal(withoutRest(signing([...hold(DOWN, 400), BETWEEN, ...hold(DOWN, 400)])), null);
  assert.equal(withoutRest(new Clip([new Array(ALL_POINTS).fill(null)], [0], { width: 4, height: 3 }, "video")), null);
});

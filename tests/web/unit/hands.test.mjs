import assert from "node:assert/strict";
import test from "node:test";

import { DOWN_MS, HandWatch, MARGIN_MS, UP_MS, depth, signIn } from "../../../web/hands.js";
import { ALL_POINTS } from "../../../web/layout.js";

const DOWN = 1.6;
const UP = 0.3;
const BETWEEN = 1.05;

/** What the watch says of depths that come every 40 ms. */
function watched(depths, watch = new HandWatch()) {
  return depths.map((below, i) => watch.see(below, 40 * i)).filter(Boolean);
}
const hold = (below, ms) => new Array(Math.ceil(ms / 40) + 1).fill(below);

test("hands that rise and fall are one sign, with a margin on both sides", () => {
  const rest = hold(DOWN, 400);
  const sign = hold(UP, 1000);
  const [start, end, ...more] = watched([...rest, ...sign, ...hold(DOWN, 1000)]);
  assert.equal(start.event, "start");
  assert.equal(start.from, 40 * rest.length - MARGIN_MS);
  assert.equal(end.event, "end");
  assert.equal(end.from, start.from);
  assert.equal(end.to, 40 * (rest.length + sign.length) + MARGIN_MS);
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

test("where the sign lies in a recording", () => {
  const depths = [...hold(DOWN, 400), ...hold(UP, 400), BETWEEN, ...hold(DOWN, 400)];
  const times = depths.map((_, i) => 40 * i);
  const first = depths.indexOf(UP);
  assert.deepEqual(signIn(depths, times), {
    from: times[first] - MARGIN_MS, to: times[depths.indexOf(BETWEEN)] + MARGIN_MS,
  });
  assert.equal(signIn([DOWN, null, BETWEEN], [0, 40, 80]), null);
});

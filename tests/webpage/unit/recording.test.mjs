import assert from "node:assert/strict";
import test from "node:test";

import { LONGEST_MS, Recording } from "../../../web/recording.js";

const SIZE = { width: 640, height: 480 };

/** Pictures that come every 40 ms, and which of them were closed. */
function camera() {
  const closed = [];
  const at = (time) => ({ picture: Promise.resolve({ time, close: () => closed.push(time) }), time });
  return { closed, at };
}

/** An engine that writes down what it is asked. */
function engine(ms = 0) {
  const asked = [];
  const wait = () => new Promise((resolve) => setTimeout(resolve, ms));
  return {
    asked,
    reset: async () => asked.push("reset"),
    landmarks: async (image, time) => {
      asked.push(time);
      await wait();
      return { frame: [image.time], ms };
    },
  };
}
const none = { aborted: false };

for (const hold of [false, true]) {
  test(`every picture reaches the clip, those from before it began too, ${hold ? "afterwards" : "meanwhile"}`, async () => {
    const { at } = camera();
    const slow = engine(5);
    const recording = new Recording(slow, SIZE, { hold, most: 100, before: [at(0), at(40)] });
    for (let time = 80; time < 400; time += 40) assert.ok(recording.add(at(time).picture, time));
    await new Promise((resolve) => setTimeout(resolve));
    if (hold) assert.deepEqual(slow.asked, []);
    const clip = await recording.finish(() => {}, none);
    const times = Array.from({ length: 10 }, (_, i) => 40 * i);
    assert.deepEqual(slow.asked, ["reset", ...times]);
    assert.deepEqual(clip.times, times);
    assert.deepEqual(clip.frames, times.map((time) => [time]));
    assert.equal(clip.fps, 25);
  });
}

test("a recording is full after so many milliseconds, or so many frames", () => {
  const { at } = camera();
  const long = new Recording(engine(), SIZE, { hold: true, most: 1000, before: [at(0)] });
  assert.equal(long.add(at(LONGEST_MS - 1).picture, LONGEST_MS - 1), true);
  assert.equal(long.add(at(LONGEST_MS).picture, LONGEST_MS), false);
  const many = new Recording(engine(), SIZE, { hold: true, most: 3, before: [at(0)] });
  assert.equal(many.add(at(40).picture, 40), true);
  assert.equal(many.add(at(80).picture, 80), false);
});

test("pictures that are left out are closed", async () => {
  const { at, closed } = camera();
  const recording = new Recording(engine(), SIZE, { hold: true, most: 100, before: [at(0)] });
  recording.add(at(40).picture, 40);
  recording.drop();
  await new Promise((resolve) => setTimeout(resolve));
  assert.deepEqual(closed, [0, 40]);
});

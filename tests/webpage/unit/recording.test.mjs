import assert from "node:assert/strict";
import test from "node:test";

import { LONGEST_MS, Recording } from "../../../web/recording.js";

const SIZE = { width: 640, height: 480 };

/** A source of pictures, and the times of the pictures that were closed. */
function camera() {
  const closed = [];
  const pictureAt = (time) => ({ picture: Promise.resolve({ time, close: () => closed.push(time) }), time });
  return { closed, pictureAt };
}

/** An engine that records its calls: "reset", or the time of a frame. */
function engine(ms = 0) {
  const calls = [];
  const wait = () => new Promise((resolve) => setTimeout(resolve, ms));
  return {
    calls,
    reset: async () => calls.push("reset"),
    landmarks: async (image, time) => {
      calls.push(time);
      await wait();
      return { frame: [image.time], ms };
    },
  };
}
const notAborted = { aborted: false };

for (const deferred of [false, true]) {
  test(`every picture becomes a frame, also earlier pictures, if landmarks are found ${deferred ? "after" : "during"} the recording`, async () => {
    const { pictureAt } = camera();
    const slow = engine(5);
    const recording = new Recording(slow, SIZE, { deferred, maxFrames: 100, before: [pictureAt(0), pictureAt(40)] });
    for (let time = 80; time < 400; time += 40) assert.ok(recording.add(pictureAt(time).picture, time));
    await new Promise((resolve) => setTimeout(resolve));
    if (deferred) assert.deepEqual(slow.calls, []);
    const clip = await recording.finish(() => {}, notAborted);
    const times = Array.from({ length: 10 }, (_, i) => 40 * i);
    assert.deepEqual(slow.calls, ["reset", ...times]);
    assert.deepEqual(clip.times, times);
    assert.deepEqual(clip.frames, times.map((time) => [time]));
    assert.equal(clip.fps, 25);
  });
}

test("a recording is full after LONGEST_MS, or at the maximum number of frames", () => {
  const { pictureAt } = camera();
  const long = new Recording(engine(), SIZE, { deferred: true, maxFrames: 1000, before: [pictureAt(0)] });
  assert.equal(long.add(pictureAt(LONGEST_MS - 1).picture, LONGEST_MS - 1), true);
  assert.equal(long.add(pictureAt(LONGEST_MS).picture, LONGEST_MS), false);
  const many = new Recording(engine(), SIZE, { deferred: true, maxFrames: 3, before: [pictureAt(0)] });
  assert.equal(many.add(pictureAt(40).picture, 40), true);
  assert.equal(many.add(pictureAt(80).picture, 80), false);
});

test("dropped pictures are closed", async () => {
  const { pictureAt, closed } = camera();
  const recording = new Recording(engine(), SIZE, { deferred: true, maxFrames: 100, before: [pictureAt(0)] });
  recording.add(pictureAt(40).picture, 40);
  recording.drop();
  await new Promise((resolve) => setTimeout(resolve));
  assert.deepEqual(closed, [0, 40]);
});

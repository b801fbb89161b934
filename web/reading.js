/** Reads a video file: finds the landmarks of all its frames. */

import { Clip } from "./clip.js";
import { VideoError, frames, openVideo } from "./video.js";

/**
 * Read a video frame by frame, and show each frame with its skeleton.
 *
 * @param {File} file
 * @param {object} options
 * @param {import("./stage.js").Stage} options.stage
 * @param {(video: HTMLVideoElement) => Promise<import("./engine.js").Engine>} options.ready returns the engine
 * @param {number} options.maxFrames limit of the model
 * @param {(done: number, total: ?number) => void} options.progress
 * @param {AbortSignal} signal cancels reading
 * @returns {Promise<?Clip>} null if it was canceled
 * @throws {VideoError} `bad_video`, `clip_too_long`
 */
export async function readVideo(file, { stage, ready, maxFrames, progress }, signal) {
  const { video } = stage;
  const close = await openVideo(video, file);
  try {
    const size = { width: video.videoWidth, height: video.videoHeight };
    stage.show(size, false);
    const engine = await ready(video);
    await engine.reset();
    const results = [];
    for await (const { time, step } of frames(video, signal)) {
      const total = step ? Math.max(results.length + 1, Math.round((1000 * video.duration) / step)) : null;
      if (total > maxFrames) throw new VideoError("clip_too_long", undefined, { n: total, max: maxFrames });
      const { frame, ms } = await engine.landmarks(video, time);
      if (signal.aborted) return null;
      results.push({ frame, time, ms });
      stage.draw(frame);
      progress(results.length, total);
      await new Promise((resolve) => setTimeout(resolve)); // lets the page draw and handle events
    }
    return signal.aborted ? null : Clip.of(results, size, "video");
  } finally {
    close();
    stage.hide();
  }
}

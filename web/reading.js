/** Reading a video file: the landmarks of all of its frames. */

import { Clip } from "./clip.js";
import { VideoError, frames, openVideo } from "./video.js";

/**
 * Read a video frame by frame, showing each with its skeleton.
 *
 * @param {File} file
 * @param {object} how
 * @param {import("./stage.js").Stage} how.stage
 * @param {(video: HTMLVideoElement) => Promise<import("./engine.js").Engine>} how.ready the engine, opened with a picture
 * @param {number} how.most frames that the model takes
 * @param {(done: number, total: ?number) => void} how.progress
 * @param {AbortSignal} signal ends it
 * @returns {Promise<?Clip>} null where it was ended
 * @throws {VideoError} `bad_video`, `clip_too_long`
 */
export async function readVideo(file, { stage, ready, most, progress }, signal) {
  const { video } = stage;
  const close = await openVideo(video, file);
  try {
    const size = { width: video.videoWidth, height: video.videoHeight };
    stage.show(size, false);
    const engine = await ready(video);
    await engine.reset();
    const found = [];
    for await (const { time, step } of frames(video, signal)) {
      const total = step ? Math.max(found.length + 1, Math.round((1000 * video.duration) / step)) : null;
      if (total > most) throw new VideoError("clip_too_long", undefined, { n: total, max: most });
      const { frame, ms } = await engine.landmarks(video, time);
      if (signal.aborted) return null;
      found.push({ frame, time, ms });
      stage.draw(frame);
      progress(found.length, total);
      await new Promise((resolve) => setTimeout(resolve)); // lets the page draw and listen
    }
    return signal.aborted ? null : Clip.of(found, size, "video");
  } finally {
    close();
    stage.hide();
  }
}

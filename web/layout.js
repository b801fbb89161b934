/**
 * MediaPipe Holistic's landmarks, and the layout that a model uses. No DOM.
 *
 * A frame is an array of 543 points in MediaPipe's order. Each is `[x, y]` in fractions of the picture (x to the right, y
 * down, not mirrored), or null if it was not found. "left" is the signer's left.
 */

/** First index of each part in the 543 points, and its number of points. */
export const PARTS = {
  pose: { start: 0, size: 33 },
  face: { start: 33, size: 468 },
  leftHand: { start: 501, size: 21 },
  rightHand: { start: 522, size: 21 },
};

export const ALL_POINTS = 543;

/** Index of the point between the shoulders, which MediaPipe lacks: the mean of points 11 and 12. */
export const NECK = 543;

/** MediaPipe's indices of points of the pose. */
export const POSE = { nose: 0, leftShoulder: 11, rightShoulder: 12, leftWrist: 15, rightWrist: 16, leftHip: 23, rightHip: 24 };

const range = (start, size) => Array.from({ length: size }, (_, i) => start + i);

/**
 * The layout to assume if the server does not describe its model: 54, the bundled model's.
 * The indices are those of spoter/landmarks/tables/points_54.csv; tests/webpage/unit/layout.test.mjs compares them.
 */
export const LAYOUT_54 = {
  name: "54",
  mediapipe: [0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, ...range(501, 21), ...range(522, 21), NECK],
};

/**
 * Return a layout's points of a frame, in the layout's order.
 *
 * @param {Array<?[number, number]>} frame 543 points
 * @param {Array<?number>} mediapipe index of each landmark; NECK is computed, null has no counterpart in MediaPipe
 * @returns {Array<?[number, number]>}
 */
export function select(frame, mediapipe) {
  return mediapipe.map((index) => (index === NECK ? neck(frame) : (frame[index] ?? null)));
}

/** Return the point between the shoulders, null if a shoulder is missing. */
export function neck(frame) {
  const [left, right] = [frame[POSE.leftShoulder], frame[POSE.rightShoulder]];
  return left && right ? [(left[0] + right[0]) / 2, (left[1] + right[1]) / 2] : null;
}

/** Return whether any point of a part was found. */
export function has(frame, part) {
  const { start, size } = PARTS[part];
  for (let i = start; i < start + size; i += 1) if (frame[i]) return true;
  return false;
}

/**
 * Return Holistic's results as one array of 543 points.
 *
 * @param {object} results argument of Holistic's `onResults`; a part that was not found is absent
 * @returns {Array<?[number, number]>}
 */
export function frameOfResults(results) {
  const frame = new Array(ALL_POINTS).fill(null);
  const landmarks = {
    pose: results.poseLandmarks,
    face: results.faceLandmarks,
    leftHand: results.leftHandLandmarks,
    rightHand: results.rightHandLandmarks,
  };
  for (const [part, { start, size }] of Object.entries(PARTS)) {
    (landmarks[part] ?? []).slice(0, size).forEach(({ x, y }, i) => {
      if (Number.isFinite(x) && Number.isFinite(y)) frame[start + i] = [x, y];
    });
  }
  return frame;
}

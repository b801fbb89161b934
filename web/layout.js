/**
 * MediaPipe Holistic's landmarks and a model's layout of them. No DOM.
 *
 * A frame is an array of 543 points in MediaPipe's order, each `[x, y]` in fractions of the picture (x to the right, y
 * down, not mirrored) or null where nothing was found. "left" is the signer's left.
 */

/** Where each part begins in the 543 points, and how many it has. */
export const PARTS = {
  pose: { start: 0, size: 33 },
  face: { start: 33, size: 468 },
  leftHand: { start: 501, size: 21 },
  rightHand: { start: 522, size: 21 },
};

export const ALL_POINTS = 543;

/** Index that stands for the point between the shoulders, which MediaPipe has not: the mean of 11 and 12. */
export const NECK = 543;

/** Points of the pose, by MediaPipe's indices. */
export const POSE = { nose: 0, leftShoulder: 11, rightShoulder: 12, leftWrist: 15, rightWrist: 16, leftHip: 23, rightHip: 24 };

const range = (start, size) => Array.from({ length: size }, (_, i) => start + i);

/**
 * The layout that is taken where the server does not say which one its model has: 54, the embedded model's.
 * Its indices are those of spoter/landmarks/tables/points_54.csv; tests/webpage/unit/layout.test.mjs compares them.
 */
export const LAYOUT_54 = {
  name: "54",
  mediapipe: [0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, ...range(501, 21), ...range(522, 21), NECK],
};

/**
 * Take a layout's points from a frame, in the layout's order.
 *
 * @param {Array<?[number, number]>} frame 543 points
 * @param {Array<?number>} mediapipe index of each landmark; NECK is derived, null has no counterpart in MediaPipe
 * @returns {Array<?[number, number]>}
 */
export function select(frame, mediapipe) {
  return mediapipe.map((index) => (index === NECK ? neck(frame) : (frame[index] ?? null)));
}

/** The point between the shoulders, null where one of them is missing. */
export function neck(frame) {
  const [left, right] = [frame[POSE.leftShoulder], frame[POSE.rightShoulder]];
  return left && right ? [(left[0] + right[0]) / 2, (left[1] + right[1]) / 2] : null;
}

/** Tell whether any point of a part was found. */
export function has(frame, part) {
  const { start, size } = PARTS[part];
  for (let i = start; i < start + size; i += 1) if (frame[i]) return true;
  return false;
}

/**
 * Put Holistic's results in one array of 543 points.
 *
 * @param {object} results what Holistic gives to `onResults`; a part that was not found is absent
 * @returns {Array<?[number, number]>}
 */
export function frameOfResults(results) {
  const frame = new Array(ALL_POINTS).fill(null);
  const found = {
    pose: results.poseLandmarks,
    face: results.faceLandmarks,
    leftHand: results.leftHandLandmarks,
    rightHand: results.rightHandLandmarks,
  };
  for (const [part, { start, size }] of Object.entries(PARTS)) {
    (found[part] ?? []).slice(0, size).forEach(({ x, y }, i) => {
      if (Number.isFinite(x) && Number.isFinite(y)) frame[start + i] = [x, y];
    });
  }
  return frame;
}

/** Draws a skeleton on a canvas: a gray and white body, one color per hand, a dashed ring for a missing hand. */

import { PARTS, POSE, has, neck } from "./layout.js";

/** Colors of spoter/landmarks/skeleton.py, lighter for the dark stage. Joints are round (left) or square (right). */
export const COLORS = { body: "#e9edf1", leftHand: "#56b4e9", rightHand: "#ff8a3d" };
const HALO = "rgba(0, 0, 0, 0.65)"; // keeps lines visible on a bright picture

// Polylines, as lists of point indices; the same as in spoter/landmarks/skeleton.py.
const BODY = [
  [8, 5, 0, 2, 7], [12, 11, 23, 24, 12], [11, 13, 15], [12, 14, 16],
  ...[[70, 105, 55], [130, 133], [132, 172, 148, 377, 397, 361], [57, 37, 267, 287], [57, 84, 314, 287], [359, 362],
    [300, 334, 285]].map((chain) => chain.map((i) => PARTS.face.start + i)),
];
const HAND = [[0, 1, 2, 3, 4], [0, 5, 6, 7, 8], [0, 9, 10, 11, 12], [0, 13, 14, 15, 16], [0, 17, 18, 19, 20], [5, 9, 13, 17]];
const WRISTS = { leftHand: POSE.leftWrist, rightHand: POSE.rightWrist };

/**
 * Draw a frame without clearing the canvas.
 *
 * @param {CanvasRenderingContext2D} context of a canvas with the picture's aspect ratio
 * @param {?Array<?[number, number]>} frame 543 points; null draws nothing
 */
export function drawFrame(context, frame) {
  if (!frame) return;
  const { width, height } = context.canvas;
  const unit = Math.max(1, Math.min(width, height) / 240);
  const place = (point) => [point[0] * width, point[1] * height];
  const body = BODY.flatMap((chain) => segments(chain.map((i) => frame[i])));
  const middle = neck(frame);
  if (middle && frame[POSE.nose]) body.push([middle, frame[POSE.nose]]);
  stroke(context, body.map((segment) => segment.map(place)), COLORS.body, 1.3 * unit);
  for (const [part, wrist] of Object.entries(WRISTS)) {
    const { start } = PARTS[part];
    if (has(frame, part)) {
      const lines = HAND.flatMap((chain) => segments(chain.map((i) => frame[start + i])));
      lines.push(...segments([frame[wrist], frame[start]]));
      const joints = frame.slice(start, start + PARTS[part].size).filter(Boolean).map(place);
      stroke(context, lines.map((segment) => segment.map(place)), COLORS[part], 1.3 * unit);
      dots(context, joints, part, 1.5 * unit);
    } else if (frame[wrist]) {
      ring(context, place(frame[wrist]), COLORS[part], 7 * unit, 1.6 * unit);
    }
  }
}

/** Return a polyline's segments whose end points both exist. */
function segments(points) {
  const result = [];
  for (let i = 1; i < points.length; i += 1) if (points[i - 1] && points[i]) result.push([points[i - 1], points[i]]);
  return result;
}

function stroke(context, lines, color, width) {
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  for (const [from, to] of lines) {
    context.moveTo(...from);
    context.lineTo(...to);
  }
  strokeWithHalo(context, color, width);
}

function dots(context, points, part, radius) {
  context.beginPath();
  for (const [x, y] of points) {
    if (part === "leftHand") {
      context.moveTo(x + radius, y);
      context.arc(x, y, radius, 0, 2 * Math.PI);
    } else context.rect(x - radius, y - radius, 2 * radius, 2 * radius);
  }
  context.fillStyle = COLORS[part];
  context.fill();
}

function ring(context, [x, y], color, radius, width) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.setLineDash([2.2 * width, 1.6 * width]);
  strokeWithHalo(context, color, width);
  context.setLineDash([]);
}

function strokeWithHalo(context, color, width) {
  context.strokeStyle = HALO;
  context.lineWidth = 2 * width;
  context.stroke();
  context.strokeStyle = color;
  context.lineWidth = width;
  context.stroke();
}

/** Parsers for a server's responses: answers, errors of every kind of server, descriptions of models. No DOM. */

import { LAYOUT_54 } from "./layout.js";

/** Limits to assume if the server does not describe them: the defaults of docs/http.md. */
export const LIMITS = { max_frames: 512, max_clips: 64, max_bytes: 25 * 2 ** 20 };

/** The model to assume if the server does not describe one. */
export const UNKNOWN_MODEL = {
  name: null, version: null, glosses: [], enrolled: [], layout: LAYOUT_54, tellsUnknown: null, enrolment: false, limits: LIMITS,
};

/**
 * Parse the response to `{"describe": true}`.
 *
 * @param {object} body
 * @returns {?object} null if the body is not a description, or if its layout lacks MediaPipe's indices
 */
export function readModel(body) {
  const layout = body?.layout;
  if (!Array.isArray(body?.glosses) || !Array.isArray(layout?.mediapipe) || layout.name === undefined) return null;
  if (!layout.mediapipe.length || !layout.mediapipe.every((i) => i === null || Number.isInteger(i))) return null;
  return {
    name: String(body.name ?? ""),
    version: String(body.version ?? ""),
    glosses: body.glosses.map(String),
    enrolled: (body.enrolled ?? []).map((gloss) => String(gloss?.gloss ?? gloss)),
    layout: { name: String(layout.name), mediapipe: layout.mediapipe },
    tellsUnknown: body.tells_unknown ?? null,
    enrolment: body.enrolment === true,
    limits: { ...LIMITS, ...body.limits },
  };
}

/**
 * Parse the response to a request.
 *
 * @param {object} body one answer, or several under `answers`
 * @returns {?Array<{instances: Array<{gloss: string, score: number, index: number}>, known: ?boolean, frames: ?number}
 *   |{error: {code: string, message: string, where: ?string}}>} null for any other body
 */
export function readAnswers(body) {
  const list = Array.isArray(body?.answers) ? body.answers : [body];
  const answers = list.map((answer) => {
    if (answer?.error) return { error: readErrorObject(answer.error) };
    if (!Array.isArray(answer?.instances) || !answer.instances.every((instance) => Number.isFinite(instance?.score))) return null;
    return { instances: answer.instances, known: answer.known ?? null, frames: answer.frames ?? null };
  });
  return answers.length && answers.every(Boolean) ? answers : null;
}

/**
 * Parse the body of a response whose status is not 200.
 *
 * Servers of this project send `{"error": {code, message, where}}`, TorchServe `{"code", "type", "message"}`, API
 * Gateway `{"message"}`. A proxy may send HTML, which is not shown.
 *
 * @param {number} status
 * @param {string} text the body
 * @returns {{code: string, message: string, where: ?string}}
 */
export function readError(status, text) {
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    // not JSON: only the status describes the error
  }
  if (body?.error) return readErrorObject(body.error);
  const message = body?.message ?? body?.Message ?? body?.errorMessage;
  return { code: String(body?.type ?? `http_${status}`), message: typeof message === "string" ? message : "", where: null };
}

function readErrorObject(error) {
  if (typeof error === "string") return { code: "error", message: error, where: null };
  return { code: String(error.code ?? "error"), message: String(error.message ?? ""), where: error.where ?? null };
}

/**
 * Return the code of the message that tells a user what to do about a status.
 *
 * @param {number} status
 * @returns {"server_busy"|"server_down"|"server_timeout"|"server_refused"|"server_failed"|"server_other"}
 */
export function messageCode(status) {
  if (status < 400) return "server_other"; // a redirect, which browsers report as status 0
  if (status === 503 || status === 429) return "server_busy";
  if (status === 502) return "server_down"; // sent by a proxy in front of the server: `spoter demo`, a gateway
  if (status === 504) return "server_timeout";
  return status >= 400 && status < 500 ? "server_refused" : "server_failed";
}

const CONTENT_TYPES = {
  json: "application/json", csv: "text/csv", npy: "application/x-npy", jsonl: "application/jsonlines",
  ndjson: "application/jsonlines",
};
const VIDEO_NAME = /\.(mp4|m4v|mov|webm|mkv|avi|ogv|3gp|mpe?g)$/i;

/**
 * Return the kind of an uploaded file.
 *
 * @param {string} name
 * @param {string} type the media type that the browser assigns, often ""
 * @returns {{kind: "video"}|{kind: "landmarks", type: string}|{kind: "unknown"}}
 */
export function kindOfFile(name, type) {
  const ending = name.toLowerCase().split(".").pop();
  if (CONTENT_TYPES[ending]) return { kind: "landmarks", type: CONTENT_TYPES[ending] };
  if (type.startsWith("video/") || VIDEO_NAME.test(name)) return { kind: "video" };
  return { kind: "unknown" };
}

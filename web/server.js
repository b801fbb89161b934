/** Asking the server. Nothing of what is asked or answered is kept here. */

import { readError, trouble } from "./answers.js";

const TRIES = 3; // of what is answered "busy"
const WAITS = [1000, 3000]; // milliseconds before the second and third, where the server names no time
const PATIENCE = 60_000; // milliseconds; a cold serverless endpoint takes half of it

/**
 * Take an address as a person wrote it; nothing is the server behind the page's own.
 *
 * @param {string} written
 * @param {string} base the page's address
 * @returns {?string} null where it is none, or the page's policy (index.html) bars it
 */
export function addressOf(written, base) {
  try {
    const url = new URL(written.trim() || "predictions/spoter", base);
    const near = url.protocol === "http:" && ["127.0.0.1", "localhost"].includes(url.hostname);
    return url.protocol === "https:" || near || url.origin === new URL(base).origin ? url.href : null;
  } catch {
    return null;
  }
}

/** A question that got no answer; `code` is that of a message, `server` what the server said, if it did. */
export class ServerError extends Error {
  constructor(code, server = null, cause = undefined) {
    super(code, { cause });
    this.code = code;
    this.server = server;
  }
}

export class Server {
  /**
   * @param {string} url where questions go
   * @param {{kind: "none"|"bearer"|"x-api-key", key: string}} auth kept in memory only
   */
  constructor(url, auth = { kind: "none", key: "" }) {
    this.url = url;
    this.auth = auth;
  }

  get headers() {
    const { kind, key } = this.auth;
    if (kind === "none" || !key) return {};
    return kind === "bearer" ? { Authorization: `Bearer ${key}` } : { "x-api-key": key };
  }

  /** Whether questions leave the page's own origin. */
  get elsewhere() {
    return new URL(this.url).origin !== location.origin;
  }

  /**
   * Send a body and read the answer.
   *
   * @param {BodyInit} body
   * @param {string} type its content type
   * @param {AbortSignal} signal
   * @param {() => void} [busy] called before waiting for a server that is busy
   * @returns {Promise<{body: object, ms: number}>} milliseconds of the round trip that was answered
   * @throws {ServerError}
   */
  async ask(body, type, signal, busy = () => {}) {
    for (let attempt = 1; ; attempt += 1) {
      const started = performance.now();
      const response = await this.#post(body, type, signal);
      const text = await response.text().catch((error) => {
        throw new ServerError(signal.aborted ? "cancelled" : "server_down", null, error);
      });
      const ms = performance.now() - started;
      if (response.ok) return { body: parse(text), ms };
      const code = trouble(response.status);
      const said = { ...readError(response.status, text), status: response.status };
      if (code !== "server_busy" || attempt === TRIES) throw new ServerError(code, said);
      busy();
      const told = 1000 * Number(response.headers.get("Retry-After") ?? NaN);
      await pause(told >= 0 && told < PATIENCE ? told : WAITS[attempt - 1], signal);
    }
  }

  async #post(body, type, signal) {
    const limit = AbortSignal.timeout(PATIENCE);
    try {
      return await fetch(this.url, {
        method: "POST",
        headers: { "Content-Type": type, Accept: "application/json", ...this.headers },
        body,
        credentials: "omit",
        referrerPolicy: "no-referrer",
        redirect: "manual", // landmarks go where the page says they go, and nowhere else
        signal: AbortSignal.any ? AbortSignal.any([signal, limit]) : signal,
      });
    } catch (error) {
      const code = signal.aborted ? "cancelled" : limit.aborted ? "server_timeout" : "server_down";
      throw new ServerError(code, null, error);
    }
  }
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ServerError("server_other", null, error);
  }
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new ServerError("cancelled"));
    });
  });
}

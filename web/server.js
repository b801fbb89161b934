/** Sends requests to the server. Keeps neither requests nor responses. */

import { readError, messageCode } from "./answers.js";

const TRIES = 3; // if the server reports that it is busy
const WAITS = [1000, 3000]; // milliseconds before the second and the third try, if there is no Retry-After header
const TIMEOUT = 60_000; // milliseconds; a serverless endpoint needs half of it for a cold start

/**
 * Return the URL of an address that a user entered; an empty address is the server behind the page.
 *
 * @param {string} address
 * @param {string} base the page's URL
 * @returns {?string} null if it is not a URL, or if the page's content security policy (index.html) forbids it
 */
export function urlOf(address, base) {
  try {
    const url = new URL(address.trim() || "predictions/spoter", base);
    const isLocal = url.protocol === "http:" && ["127.0.0.1", "localhost"].includes(url.hostname);
    return url.protocol === "https:" || isLocal || url.origin === new URL(base).origin ? url.href : null;
  } catch {
    return null;
  }
}

/** A failed request; `code` is the code of a message, `server` the error that the server returned, if any. */
export class ServerError extends Error {
  constructor(code, server = null, cause = undefined) {
    super(code, { cause });
    this.code = code;
    this.server = server;
  }
}

export class Server {
  /**
   * @param {string} url of predictions
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

  /** Whether requests go to another origin than the page's. */
  get isCrossOrigin() {
    return new URL(this.url).origin !== location.origin;
  }

  /**
   * Send a request and return the response.
   *
   * @param {BodyInit} body
   * @param {string} type content type of the body
   * @param {AbortSignal} signal
   * @param {() => void} [onBusy] called before each wait for a busy server
   * @returns {Promise<{body: object, ms: number}>} `ms`: milliseconds of the successful round trip
   * @throws {ServerError}
   */
  async send(body, type, signal, onBusy = () => {}) {
    for (let attempt = 1; ; attempt += 1) {
      const started = performance.now();
      const response = await this.#post(body, type, signal);
      const text = await response.text().catch((error) => {
        throw new ServerError(signal.aborted ? "cancelled" : "server_down", null, error);
      });
      const ms = performance.now() - started;
      if (response.ok) return { body: parse(text), ms };
      const code = messageCode(response.status);
      const serverError = { ...readError(response.status, text), status: response.status };
      if (code !== "server_busy" || attempt === TRIES) throw new ServerError(code, serverError);
      onBusy();
      const retryAfter = 1000 * Number(response.headers.get("Retry-After") ?? NaN);
      await pause(retryAfter >= 0 && retryAfter < TIMEOUT ? retryAfter : WAITS[attempt - 1], signal);
    }
  }

  async #post(body, type, signal) {
    const timeout = AbortSignal.timeout(TIMEOUT);
    try {
      return await fetch(this.url, {
        method: "POST",
        headers: { "Content-Type": type, Accept: "application/json", ...this.headers },
        body,
        credentials: "omit",
        referrerPolicy: "no-referrer",
        redirect: "manual", // landmarks go only to the address that the page shows
        signal: AbortSignal.any ? AbortSignal.any([signal, timeout]) : signal,
      });
    } catch (error) {
      const code = signal.aborted ? "cancelled" : timeout.aborted ? "server_timeout" : "server_down";
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

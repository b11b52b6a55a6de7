/** The server's answers: JSON, or an error that says what to do. */

import { say } from "./notice.js";
import { OFFLINE } from "./words.js";

/**
 * @typedef {{id: number, path: string, width: number, height: number, format: string, thumbnail: string, original: string}} GalleryImage
 * @typedef {GalleryImage & {cosine: number, bits: number, code_bits: number, rarity: number | null, likeness: string, words: string}} Hit
 * @typedef {{hits: Hit[], more: boolean, seconds: {encode: number, search: number}, nothing_similar: boolean, note: string | null}} Found
 * @typedef {{rows: number, columns: number, values: number[][], low?: number, high?: number}} Cells
 * @typedef {{query: [number, number], hit: [number, number], cosine: number}} Pair
 * @typedef {{attention: {query: Cells, hit: Cells} | null, attention_note: string | null, regions: {query: Cells, hit: Cells, pairs: Pair[]}, cosine: number}} Explanation
 * @typedef {GalleryImage & {kind: string | null, cosine: number, bytes: number}} Duplicate
 * @typedef {{updating: boolean, done: number, total: number | null, report: Object<string, any> | null, error: {message: string, remedy?: string} | null}} Progress
 */

const TRIES_WHEN_BUSY = 5;
const LONGEST_WAIT = 30;

export class ApiError extends Error {
  /** @param {number} status @param {{code?: string, message?: string, remedy?: string}} error */
  constructor(status, error) {
    super(error.message || `the server answered ${status}`);
    this.status = status;
    this.code = error.code;
    this.remedy = error.remedy;
  }
}

/** @param {Response} response */
async function failure(response) {
  const answer = await response.json().catch(() => ({}));
  return new ApiError(response.status, answer.error ?? {});
}

/** @param {string} path @param {RequestInit} options */
async function send(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError(0, { code: "offline", ...OFFLINE });
  }
}

/** @param {number} seconds @param {AbortSignal | null | undefined} signal */
function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

/** @param {string} token */
async function openSession(token) {
  const response = await send("/api/session", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token }),
  });
  if (!response.ok) throw await failure(response);
}

/** @param {string} path @param {RequestInit} options */
async function answer(path, options) {
  for (let tries = 1; ; tries += 1) {
    const response = await send(path, options);
    if (response.ok) return response.json();
    if (response.status === 401) {
      const { askForToken } = await import("./token.js");
      await askForToken(openSession);
    } else if (response.status === 503 && tries < TRIES_WHEN_BUSY) {
      const wait = Math.min(LONGEST_WAIT, Number(response.headers.get("Retry-After")) || 1);
      say(`The server is busy. Trying again in ${wait} s.`);
      await pause(wait, options.signal);
    } else {
      throw await failure(response);
    }
  }
}

/** @param {string} path @param {AbortSignal} [signal] */
export function get(path, signal) {
  return answer(path, { signal });
}

/** @param {string} path @param {Object} [body] @param {AbortSignal} [signal] */
export function post(path, body = {}, signal) {
  const headers = { "Content-Type": "application/json" };
  return answer(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

/** @param {Blob} image @returns {Promise<{query: string, width: number, height: number}>} */
export function sendImage(image) {
  const type = image.type.startsWith("image/") ? image.type : "application/octet-stream";
  return answer("/api/queries", { method: "POST", headers: { "Content-Type": type }, body: image });
}

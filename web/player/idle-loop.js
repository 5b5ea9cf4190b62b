// The idle loop: its first segments at once, the others while nothing else is waited for. Layout: docs/sessions.md.

import { PlayerError, request } from "./errors.js";
/** @import { Credentials } from "./credentials.js" */
/** @import { Bytes } from "./types.d.ts" */

const FIRST_BYTES = 160 * 1024; // where the service does not say in how many FIRST_SEGMENTS are
const FIRST_SEGMENTS = 3; // to begin with
const MORE_SEGMENTS = 4; // in one request: it competes with speech that is asked for meanwhile
const AGAIN_MS = 1_000; // after a request that failed

/** @type {Map<string, Promise<IdleLoop>>} a URL names a version: what it gives never changes */
const loops = new Map();

/** The loop with its first segments. Fetched once a page. @param {string} url @param {Credentials} credentials
 * @param {number} [firstBytes] in which these are */
export function loadIdle(url, credentials, firstBytes = FIRST_BYTES) {
  let loading = loops.get(url);
  if (!loading) {
    loading = IdleLoop.open(url, credentials, firstBytes);
    loops.set(url, loading);
    loading.catch(() => loops.delete(url));
  }
  return loading;
}

export class IdleLoop {
  #url;
  #credentials;
  /** @type {number[]} */ #cuts; // where each segment begins, and the last one ends
  /** @type {(Bytes | undefined)[]} */ #segments;
  #loading = false;
  #notBefore = 0; // performance.now()

  /** @param {string} url @param {Credentials} credentials
   * @param {{ codecs: string, frames: number, init: number, segments: number[] }} index @param {number} at its end
   * @param {Bytes} body from its beginning */
  constructor(url, credentials, index, at, body) {
    this.#url = url;
    this.#credentials = credentials;
    this.codecs = index.codecs;
    this.frames = index.frames;
    this.init = body.subarray(at, at + index.init);
    let end = at + index.init;
    this.#cuts = [end, ...index.segments.map((size) => (end += size))];
    this.#segments = Array(index.segments.length);
    this.#keep(0, body, 0);
  }

  /** @param {string} url @param {Credentials} credentials @param {number} firstBytes */
  static async open(url, credentials, firstBytes) {
    const body = await range(url, credentials, 0, firstBytes);
    const length = new DataView(body.buffer).getUint32(0);
    const index = JSON.parse(new TextDecoder().decode(body.subarray(4, 4 + length)));
    const loop = new IdleLoop(url, credentials, index, 4 + length, body);
    for (let n = 0; n < Math.min(FIRST_SEGMENTS, loop.length); n += 1) if (!loop.segment(n)) await loop.#load(n);
    return loop;
  }

  /** Segments, all of them. */
  get length() {
    return this.#segments.length;
  }

  /** The bytes of a segment, where they are there. @param {number} n */
  segment(n) {
    return this.#segments[n];
  }

  /** Loads the next segments that are missing from the nth on, unless some are on their way. @param {number} n */
  loadFrom(n) {
    if (this.#loading || performance.now() < this.#notBefore) return;
    for (let i = 0; i < this.length; i += 1) {
      const missing = (n + i) % this.length;
      if (this.#segments[missing]) continue;
      this.#load(missing).catch(() => (this.#notBefore = performance.now() + AGAIN_MS));
      return;
    }
  }

  /** @param {number} first */
  async #load(first) {
    this.#loading = true;
    const last = Math.min(first + MORE_SEGMENTS, this.length);
    try {
      const from = this.#cuts[first];
      this.#keep(first, await range(this.#url, this.#credentials, from, this.#cuts[last]), from);
    } finally {
      this.#loading = false;
    }
    if (!this.#segments[first]) throw new PlayerError("media", "the idle loop has fewer bytes than its index says");
  }

  /** @param {number} first @param {Bytes} body what lies from there on @param {number} from */
  #keep(first, body, from) {
    for (let n = first; n < this.length && this.#cuts[n + 1] - from <= body.length; n += 1) {
      this.#segments[n] ??= body.slice(this.#cuts[n] - from, this.#cuts[n + 1] - from);
    }
  }
}

/** Bytes [from, to) of what lies there, or what there is of them; a proxy that knows no ranges gives the whole.
 * @param {string} url @param {Credentials} credentials @param {number} from @param {number} to */
async function range(url, credentials, from, to) {
  const response = await request(url, { headers: { Range: `bytes=${from}-${to - 1}` } }, credentials);
  const body = new Uint8Array(await response.arrayBuffer());
  return response.status === 206 ? body : body.subarray(from);
}

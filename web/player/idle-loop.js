// The idle loop: its first segments at once, the others while nothing else is waited for. Layout: docs/sessions.md.

import { PlayerError, request } from "./errors.js";
/** @import { Credentials } from "./credentials.js" */
/** @import { Bytes } from "./types.d.ts" */

const FIRST_BYTES = 96 * 1024; // where the service does not say in how many FIRST_SEGMENTS are
const FIRST_SEGMENTS = 3; // to begin with
const MORE_BYTES = 128 * 1024; // in one request: it competes with speech that is asked for meanwhile
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
  // In the order of the file: the first segment with its key frame, all of those without, the rest of those with one.
  /** @type {number[]} */ #cuts; // where each begins, and the last one ends
  /** @type {(Bytes | undefined)[]} */ #parts;
  #loading = false;
  #notBefore = 0; // performance.now()

  /** @param {string} url @param {Credentials} credentials
   * @param {{ codecs: string, frames: number, init: number, segments: number[], steady: number[] }} index
   * @param {number} at its end @param {Bytes} body from its beginning */
  constructor(url, credentials, index, at, body) {
    this.#url = url;
    this.#credentials = credentials;
    this.codecs = index.codecs;
    this.frames = index.frames;
    this.length = index.segments.length;
    this.init = body.subarray(at, at + index.init);
    let end = at + index.init;
    const [first, ...others] = index.segments;
    this.#cuts = [end, ...[first, ...index.steady, ...others].map((size) => (end += size))];
    this.#parts = Array(this.#cuts.length - 1);
    this.#keep(0, body, 0);
  }

  /** @param {string} url @param {Credentials} credentials @param {number} firstBytes */
  static async open(url, credentials, firstBytes) {
    const body = await range(url, credentials, 0, firstBytes);
    const length = new DataView(body.buffer).getUint32(0);
    const index = JSON.parse(new TextDecoder().decode(body.subarray(4, 4 + length)));
    const loop = new IdleLoop(url, credentials, index, 4 + length, body);
    for (let part = 0; part <= Math.min(FIRST_SEGMENTS, loop.length); part += 1) {
      if (!loop.#parts[part]) await loop.#load(part);
    }
    return loop;
  }

  /** A segment that begins with a key frame and so may follow anything, where it is there. @param {number} n */
  segment(n) {
    return this.#parts[this.#keyed(n)];
  }

  /** A segment for whoever saw the one before it. @param {number} n */
  steady(n) {
    return this.#parts[1 + n];
  }

  /** Loads what is missing next from the nth segment on, unless something is on its way: the loop, then ways into it.
   * @param {number} n */
  loadFrom(n) {
    if (this.#loading || performance.now() < this.#notBefore) return;
    for (let i = 0; i < 2 * this.length; i += 1) {
      const number = (n + i) % this.length;
      const missing = i < this.length ? 1 + number : this.#keyed(number);
      if (this.#parts[missing]) continue;
      this.#load(missing).catch(() => (this.#notBefore = performance.now() + AGAIN_MS));
      return;
    }
  }

  /** @param {number} n */
  #keyed(n) {
    return n === 0 ? 0 : this.length + n;
  }

  /** @param {number} first */
  async #load(first) {
    this.#loading = true;
    let last = first + 1;
    while (last < this.#parts.length && this.#cuts[last] - this.#cuts[first] < MORE_BYTES) last += 1;
    try {
      const from = this.#cuts[first];
      this.#keep(first, await range(this.#url, this.#credentials, from, this.#cuts[last]), from);
    } finally {
      this.#loading = false;
    }
    if (!this.#parts[first]) throw new PlayerError("media", "the idle loop has fewer bytes than its index says");
  }

  /** @param {number} first @param {Bytes} body what lies from there on @param {number} from */
  #keep(first, body, from) {
    for (let part = first; part < this.#parts.length && this.#cuts[part + 1] - from <= body.length; part += 1) {
      this.#parts[part] ??= body.slice(this.#cuts[part] - from, this.#cuts[part + 1] - from);
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

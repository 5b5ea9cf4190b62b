// The idle loop: its first segments at once, the others while nothing else is waited for, then the gestures of the
// state that the face is in, and ways into the loop from elsewhere, which are three times as large, only here and there
// and where one is wanted. Layout: docs/sessions.md.

import { PlayerError, request } from "./errors.js";
/** @import { Credentials } from "./credentials.js" */
/** @import { Bytes, IdleIndex } from "./types.d.ts" */

const FIRST_BYTES = 96 * 1024; // where the service does not say in how many FIRST_SEGMENTS are
const FIRST_SEGMENTS = 3; // to begin with
const MORE_BYTES = 128 * 1024; // in one request: it competes with speech that is asked for meanwhile
const AGAIN_MS = 1_000; // after a request that failed
const WAYS_APART = 4; // segments: a way in that is not there is replaced by one at most half as far away

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
  // In the order of the file: the first segment with its key frame, all of those without, the rest of those with one,
  // and those of gestures.
  /** @type {number[]} */ #cuts; // where each begins, and the last one ends
  /** @type {(Bytes | undefined)[]} */ #parts;
  /** @type {Map<string, Map<number, number[]>>} state -> first segment -> parts */ #gestures = new Map();
  /** @type {Set<string>} */ #whole = new Set(); // states of which nothing is missing: that is asked every tick
  #loading = 0; // requests
  #notBefore = 0; // performance.now()

  /** @param {string} url @param {Credentials} credentials
   * @param {IdleIndex} index
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
    const sizes = [first, ...index.steady, ...others];
    for (const [state, made] of Object.entries(index.gestures ?? {})) {
      /** @type {Map<number, number[]>} */ const places = new Map();
      for (const gesture of made) places.set(gesture.first, gesture.segments.map((size) => sizes.push(size) - 1));
      this.#gestures.set(state, places);
    }
    this.#cuts = [end, ...sizes.map((size) => (end += size))];
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
      if (!loop.#parts[part]) await loop.#load(part, loop.#groupEnd(part));
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

  /** Of the segments that begin with a key frame and are there the one nearest to the nth, round the loop.
   * @param {number} n */
  nearest(n) {
    for (let apart = 0; apart <= this.length / 2; apart += 1) {
      for (const number of [(n + apart) % this.length, (n - apart + this.length) % this.length]) {
        if (this.segment(number)) return number;
      }
    }
    return 0; // it is there before there is a timeline
  }

  /** The segments of the gesture of a state that begins in place of the nth, where they are there.
   * @param {string} state @param {number} n */
  gesture(state, n) {
    const parts = this.#gestures.get(state)?.get(n) ?? [];
    const segments = parts.flatMap((part) => this.#parts[part] ?? []);
    return segments.length && segments.length === parts.length ? segments : null;
  }

  /** Loads what is missing next from the nth segment on, unless something is on its way: the loop, gestures of a state,
   * ways into the loop. @param {number} n @param {string} state */
  loadFrom(n, state) {
    if (this.#loading || this.#whole.has(state)) return;
    const round = Array.from({ length: this.length }, (_, i) => (n + i) % this.length);
    const gestures = this.#gestures.get(state);
    const wanted = [
      ...round.map((number) => [1 + number]),
      ...round.map((number) => gestures?.get(number) ?? []),
      ...round.filter((number) => number % WAYS_APART === 0).map((number) => [this.#keyed(number)]),
    ];
    const [first, ...others] = wanted.find((parts) => parts.some((part) => !this.#parts[part])) ?? [];
    if (first === undefined) this.#whole.add(state);
    else this.#try(first, Math.max(this.#groupEnd(first), first + 1 + others.length));
  }

  /** The nth segment will follow speech: loads it with its key frame, and nothing else. @param {number} n */
  want(n) {
    if (!this.segment(n) && this.#loading < 2) this.#try(this.#keyed(n), this.#keyed(n) + 1);
  }

  /** @param {number} n */
  #keyed(n) {
    return n === 0 ? 0 : this.length + n;
  }

  /** @param {number} first @param {number} last */
  #try(first, last) {
    if (performance.now() < this.#notBefore) return;
    this.#load(first, last).catch(() => (this.#notBefore = performance.now() + AGAIN_MS));
  }

  /** The part after those that are loaded together: of segments without a key frame several. @param {number} first */
  #groupEnd(first) {
    let last = first + 1;
    while (last <= this.length && this.#cuts[last] - this.#cuts[first] < MORE_BYTES) last += 1;
    return last;
  }

  /** Parts from the first up to, without it, the last. @param {number} first @param {number} last */
  async #load(first, last) {
    this.#loading += 1;
    try {
      const from = this.#cuts[first];
      this.#keep(first, await range(this.#url, this.#credentials, from, this.#cuts[last]), from);
    } finally {
      this.#loading -= 1;
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

// One SourceBuffer, one operation at a time, in the order in which they were asked for.

import { WEBKIT } from "./media.js";
/** @import { Bytes } from "./types.d.ts" */

const ROUNDING_S = 0.03; // tracks end a little apart

export class SourceBufferQueue {
  #buffer;
  /** @type {(() => void)[]} */ #operations = [];
  #evictable;
  #fail;
  quotaHits = 0;

  /** @param {SourceBuffer} buffer
   * @param {() => [number, number] | null} evictable seconds of played media that may go when the browser has no room
   * @param {(error: unknown) => void} fail */
  constructor(buffer, evictable, fail) {
    this.#buffer = buffer;
    this.#evictable = evictable;
    this.#fail = fail;
    buffer.mode = "segments";
    buffer.addEventListener("updateend", () => this.next());
  }

  /** @param {Bytes} bytes */
  append(bytes, offsetS = 0) {
    this.afterPending(() => {
      if (this.#buffer.timestampOffset !== offsetS) this.#buffer.timestampOffset = offsetS;
      this.#buffer.appendBuffer(bytes);
    });
  }

  /** What is appended next does not go on where the last ended. Firefox, which looks at the pictures of a piece and
   * then at its sound, takes the jump of the sound for a fault and drops the pictures of the next piece, unless it is
   * told. WebKit would lose the init segment. */
  discontinuity() {
    if (!WEBKIT) this.afterPending(() => this.#buffer.abort());
  }

  /** @param {number} fromS @param {number} toS */
  remove(fromS, toS) {
    if (toS > fromS) this.afterPending(() => this.#buffer.remove(fromS, toS));
  }

  /** Takes away what then lies behind a time, if anything does: what is appended after this call stays.
   * @param {number} fromS */
  trim(fromS) {
    this.afterPending(() => {
      const { buffered } = this.#buffer;
      const endS = buffered.length ? buffered.end(buffered.length - 1) : 0;
      if (endS > fromS + ROUNDING_S) this.#buffer.remove(fromS, Infinity);
    });
  }

  /** Calls `operation` once everything before it is done. @param {() => void} operation */
  afterPending(operation) {
    this.#operations.push(operation);
    this.next();
  }

  /** Goes on where it can: after an operation, and after the playhead moved when there was no room. */
  next() {
    while (!this.#buffer.updating) {
      const operation = this.#operations.shift();
      if (!operation) return;
      try {
        operation();
      } catch (error) {
        if (!(error instanceof DOMException && error.name === "QuotaExceededError")) {
          this.#fail(error);
          return;
        }
        this.#operations.unshift(operation);
        this.quotaHits += 1;
        const range = this.#evictable();
        if (!range) return; // nothing was played yet that could go: again at the next tick
        this.#buffer.remove(...range);
      }
    }
  }
}

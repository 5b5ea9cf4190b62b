// Jumps of the clock to a slot, now or when the clock is there.

import { secondsAt } from "./slots.js";
/** @import { SeekReason } from "./types.d.ts" */
/** @import { SegmentBuffer } from "./segment-buffer.js" */

const SEEK_S = 0.015; // from a seek to its first picture

export class Seeks {
  #video;
  #segments;
  #beforeSeek;
  /** @type {{ slot: number, atS: number, why: SeekReason, soundS: number } | null} */ #scheduled = null;
  /** @type {number | null} */ #targetS = null; // seconds, until the clock was set

  closed = false;

  /** @param {HTMLVideoElement} video @param {SegmentBuffer} segments
   * @param {(why: SeekReason) => void} beforeSeek just before the clock is set */
  constructor(video, segments, beforeSeek) {
    this.#video = video;
    this.#segments = segments;
    this.#beforeSeek = beforeSeek;
  }

  /** The time of the media, also while a jump waits for the buffer. */
  get now() {
    return this.#targetS ?? this.#video.currentTime;
  }

  /** Jumps so that the slot's first picture is shown at a time of the timeline.
   * @param {number} slot @param {number} shownS @param {SeekReason} why
   * @param {number} [soundS] how much of the sound before it is heard, too */
  schedule(slot, shownS, why, soundS = this.#segments.leadS) {
    const atS = shownS - SEEK_S - soundS;
    if (atS <= this.now) this.seek(slot, why, soundS);
    else this.#scheduled = { slot, atS, why, soundS };
  }

  /** At once. The sound of a slot begins before its pictures.
   * @param {number} slot @param {SeekReason} why @param {number} [soundS] */
  seek(slot, why, soundS = this.#segments.leadS) {
    this.#scheduled = null;
    this.#beforeSeek(why);
    const to = secondsAt(slot) - soundS;
    this.#targetS = to;
    this.#segments.queue.afterPending(() => {
      if (this.#targetS === to) this.#targetS = null;
      if (!this.closed) this.#video.currentTime = to;
    });
  }

  /** A jump to this slot, or to one behind it, is not wanted any more. @param {number} slot */
  cancelFrom(slot) {
    if (this.#scheduled && this.#scheduled.slot >= slot) this.#scheduled = null;
  }

  /** Once a tick. @param {number} now */
  poll(now) {
    if (!this.#scheduled || now < this.#scheduled.atS) return;
    const { slot, why, soundS } = this.#scheduled;
    this.seek(slot, why, soundS);
  }
}

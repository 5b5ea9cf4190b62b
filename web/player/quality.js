// Quality of experience: counted here, sent to the service now and then.

/** @import { Counter, Stats, Time } from "./types.d.ts" */

const TIMES_MAX = 64; // the service takes so many times in one message
/** @type {Record<Counter, number>} */
const NONE = { dry_outs: 0, dry_ms: 0, late_segments: 0, dropped_frames: 0, painted_frames: 0, reconnects: 0 };
const COUNTERS = /** @type {Counter[]} */ (Object.keys(NONE));
const TIMES = /** @type {const} */ (["first_frame_ms", "interrupt_ms"]);

/** @returns {Record<Time, number[]>} */
const noTimes = () => ({ first_frame_ms: [], interrupt_ms: [] });

export class Quality {
  #video;
  #reported = NONE;
  #sampled = { dropped: 0, total: 0 };
  #times = noTimes();
  counts = { ...NONE };

  /** @param {HTMLVideoElement} video */
  constructor(video) {
    this.#video = video;
  }

  /** @param {Counter} name */
  add(name, value = 1) {
    this.counts[name] += value;
  }

  /** @param {Time} name @param {number} ms */
  time(name, ms) {
    if (this.#times[name].length < TIMES_MAX) this.#times[name].push(Math.round(ms));
  }

  /** Takes in what the video element counted. Hidden pages paint nothing: their frames are not lost. */
  sample() {
    const { droppedVideoFrames: dropped = 0, totalVideoFrames: total = 0 } =
      this.#video.getVideoPlaybackQuality?.() ?? {};
    if (!document.hidden && total >= this.#sampled.total) {
      const lost = Math.max(0, dropped - this.#sampled.dropped);
      this.counts.dropped_frames += lost;
      this.counts.painted_frames += Math.max(0, total - this.#sampled.total - lost);
    }
    this.#sampled = { dropped, total };
  }

  /** A message with what is new, or null. */
  message() {
    this.sample();
    /** @type {Stats} */ const changes = {};
    for (const name of COUNTERS) {
      const change = Math.round(this.counts[name] - this.#reported[name]);
      if (change > 0) changes[name] = change;
    }
    for (const name of TIMES) if (this.#times[name].length) changes[name] = this.#times[name];
    if (Object.keys(changes).length === 0) return null;
    this.#reported = { ...this.counts };
    this.#times = noTimes();
    return { type: /** @type {const} */ ("stats"), ...changes };
  }
}

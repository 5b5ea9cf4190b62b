// How fast speech comes over the line: how much of it must be in hand before it is played without a pause, and in which
// rendition the next one is asked for.

import { FPS } from "./slots.js";
/** @import { Run } from "./slots.js" */

const LEAST_S = 1.2; // of arrivals, before they tell anything
const GAP_S = 1; // what takes longer is a line that was cut, and says nothing of its speed
const LEARNING_RATE = 0.5; // from one utterance to the next
const MARGIN = 1.15; // lines vary
const HOLD_MAX_S = 12;
const WORTH_S = 0.4; // what is less is not waited for
const LOWEST = 2; // rendition
const SMALLER = 0.55; // the bytes of a rendition, pictures and sound, in those of the one before
const SLOW = 0.97; // seconds of speech in a second: less is a line that is too slow for the rendition
const TRIES_AFTER = 3; // utterances that came in time, before the next better one is tried
const TRIES_AFTER_MAX = 48; // twice as many after each try in vain

/** Its pace is that of what is written or said, not the line's. @param {Run} run */
const comesAsItIsMade = ({ utterance: { options } }) => Boolean(options.deltas || options.pcm);

export class Pace {
  /** @type {Run | null} */ #run = null;
  #last = 0; // performance.now() of what came last
  #seconds = 0; // since the first came
  #frames = 0; // in that time
  #learned = Infinity; // seconds of speech that come in a second; from utterances before
  #now = Infinity; // ... from this one
  rendition = 0; // 0 = the full one
  #good = 0; // utterances in a row that came in time
  #triesAfter = TRIES_AFTER;
  #tried = false; // the rendition of now, not yet known to come in time

  /** So many frames of a run came. @param {Run} run @param {number} nFrames */
  came(run, nFrames) {
    if (comesAsItIsMade(run)) return;
    const at = performance.now();
    if (run !== this.#run) {
      this.#learn();
      this.#run = run;
      this.#last = at;
      this.#seconds = this.#frames = 0;
      return; // what comes first was on its way before
    }
    this.#seconds += Math.min((at - this.#last) / 1000, GAP_S);
    this.#last = at;
    this.#frames += nFrames;
    if (this.#seconds >= LEAST_S) this.#now = this.#frames / FPS / this.#seconds;
  }

  /** Seconds that must be in hand for the rest of a run to be heard without a pause; 0 where the line is fast enough.
   * @param {Run} run */
  wanted(run) {
    if (comesAsItIsMade(run)) return 0;
    const rate = run === this.#run && this.#now < Infinity ? this.#now : this.#learned;
    const lacking = MARGIN * (1 - rate) * run.secondsToCome;
    return lacking > WORTH_S ? Math.min(lacking, HOLD_MAX_S) : 0;
  }

  /** No more of a run comes: the line was fast enough for it or not. @param {Run} run */
  over(run) {
    if (run !== this.#run || this.#now === Infinity) return;
    const inTime = this.#now >= SLOW;
    this.#learn();
    this.#good = inTime ? this.#good + 1 : 0;
    if (!inTime) {
      if (this.#tried) this.#triesAfter = Math.min(2 * this.#triesAfter, TRIES_AFTER_MAX);
      this.#change(Math.min(this.rendition + 1, LOWEST), false);
    } else if (this.rendition > 0 && this.#good >= this.#triesAfter) {
      this.#change(this.rendition - 1, true);
    }
  }

  /** @param {number} rendition @param {boolean} tried nobody knows whether the line is fast enough for it */
  #change(rendition, tried) {
    if (rendition > this.rendition) this.#learned /= SMALLER; // a better one is tried as if the line were fast enough
    this.rendition = rendition;
    this.#tried = tried;
    this.#good = 0;
  }

  #learn() {
    if (this.#now === Infinity) return;
    const before = this.#learned === Infinity ? this.#now : this.#learned;
    this.#learned = before + LEARNING_RATE * (this.#now - before);
    this.#now = Infinity;
  }
}

// How fast speech comes over the line, and how much of it must be in hand before it is played without a pause.

import { FPS } from "./slots.js";
/** @import { Run } from "./slots.js" */

const LEAST_S = 1.2; // of arrivals, before they tell anything
const GAP_S = 1; // what takes longer is a line that was cut, and says nothing of its speed
const LEARNING_RATE = 0.5; // from one utterance to the next
const MARGIN = 1.15; // lines vary
const HOLD_MAX_S = 12;
const WORTH_S = 0.4; // what is less is not waited for

export class Pace {
  /** @type {Run | null} */ #run = null;
  #last = 0; // performance.now() of what came last
  #seconds = 0; // since the first came
  #frames = 0; // in that time
  #learned = Infinity; // seconds of speech that come in a second; from utterances before
  #now = Infinity; // ... from this one

  /** So many frames of a run came. @param {Run} run @param {number} nFrames */
  came(run, nFrames) {
    if (run.utterance.options.deltas) return; // it comes as it is written
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
    if (run.utterance.options.deltas) return 0;
    const rate = run === this.#run && this.#now < Infinity ? this.#now : this.#learned;
    const lacking = MARGIN * (1 - rate) * run.secondsToCome;
    return lacking > WORTH_S ? Math.min(lacking, HOLD_MAX_S) : 0;
  }

  #learn() {
    if (this.#now === Infinity) return;
    const before = this.#learned === Infinity ? this.#now : this.#learned;
    this.#learned = before + LEARNING_RATE * (this.#now - before);
    this.#now = Infinity;
  }
}

// What the face does while it listens or thinks: now and then a gesture in place of the idle loop's own segments.

/** @import { IdleLoop } from "./idle-loop.js" */
/** @import { Bytes, PersonState } from "./types.d.ts" */

const CHANCE = { idle: 0, listening: 0.5, thinking: 0.8 }; // that a gesture is shown where one can be
const FIRST_CHANCE = 1; // in a state that has just begun

export class Gestures {
  #idle;
  /** @type {PersonState} */ #state = "idle";
  #chance = 0;
  /** @type {Bytes[]} */ #coming = [];

  /** @param {IdleLoop} idle */
  constructor(idle) {
    this.#idle = idle;
  }

  /** What the next ones are of; one that has begun goes on. @param {PersonState} state */
  set state(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.#chance = state === "idle" ? 0 : FIRST_CHANCE;
  }

  get state() {
    return this.#state;
  }

  /** What belongs in place of the loop's segment, and how many of the gesture it and those after it are; null: the
   * loop's own. @param {number} number of a segment whose predecessor was shown */
  next(number) {
    if (this.#coming.length === 0 && this.#chance > 0) {
      const segments = this.#idle.gesture(this.#state, number);
      if (segments && Math.random() < this.#chance) this.#coming = segments.slice();
      if (segments) this.#chance = CHANCE[this.#state];
    }
    const left = this.#coming.length;
    const bytes = this.#coming.shift();
    return bytes ? { bytes, left } : null;
  }

  /** What has begun is not shown to its end. */
  drop() {
    this.#coming = [];
  }
}

// Jumps of the clock to a slot, now or when the clock is there.

import { secondsAt } from "./slots.js";

const SEEK_S = 0.015; // from a seek to its first picture

export class Seeks {
  #video;
  #tape;
  #told;
  #due = null; // {slot, atS, why, soundS}
  #to = null; // seconds, until the clock was set

  /** told(why): just before the clock is set. */
  constructor(video, tape, told) {
    this.#video = video;
    this.#tape = tape;
    this.#told = told;
  }

  closed = false;

  /** The time of the media, also while a jump waits for the buffer. */
  get now() {
    return this.#to ?? this.#video.currentTime;
  }

  /** Jumps so that the slot's first picture is shown at a time of the timeline. soundS: how much of the sound before it is heard, too. */
  at(slot, shownS, why, soundS = this.#tape.leadS) {
    const atS = shownS - SEEK_S - soundS;
    if (atS <= this.now) this.go(slot, why, soundS);
    else this.#due = { slot, atS, why, soundS };
  }

  /** At once. The sound of a slot begins before its pictures. */
  go(slot, why, soundS = this.#tape.leadS) {
    this.#due = null;
    this.#told(why);
    const to = secondsAt(slot) - soundS;
    this.#to = to;
    this.#tape.buffer.then(() => {
      if (this.#to === to) this.#to = null;
      if (!this.closed) this.#video.currentTime = to;
    });
  }

  /** A jump to this slot, or to one behind it, is not wanted any more. */
  drop(slot) {
    if (this.#due?.slot >= slot) this.#due = null;
  }

  /** Once a tick. */
  look(now) {
    if (this.#due !== null && now >= this.#due.atS) this.go(this.#due.slot, this.#due.why, this.#due.soundS);
  }
}

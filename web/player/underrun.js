// Notices when the clock of a playing element stands though nobody stopped it: the buffer ran dry.

const STILL_MS = 90; // a clock that stands for so long has run dry, whatever the events say
const PATIENCE_MS = 300; // after an attempt, and for a browser that has enough to go on by itself
const DOUBLINGS_MAX = 3; // of patience, after each attempt: to some browsers an attempt is a new beginning
const ENOUGH_S = 0.7;

/** @typedef {object} Hooks
 * @property {() => number} bufferedAhead seconds
 * @property {(attempt: number) => void} recover appends and seeks, for the nth time since the clock stands
 * @property {(ms: number) => void} recovered it plays again, after so long */

export class UnderrunWatch {
  #video;
  #hooks;
  /** @type {number | null} */ #since = null; // when the clock began to stand
  #attemptedAt = -Infinity; // when something was done about it
  #attempts = 0; // since it stands
  #clockChanges = 0; // since then
  #clock = { at: 0, time: -1 };
  #started = false;

  /** @param {HTMLVideoElement} video @param {Hooks} hooks */
  constructor(video, hooks) {
    this.#video = video;
    this.#hooks = hooks;
    video.addEventListener("waiting", this.#onWaiting);
  }

  /** Once a tick. */
  poll() {
    const { currentTime: time, seeking, paused } = this.#video;
    const at = performance.now();
    if (time !== this.#clock.time) {
      this.#clock = { at, time };
      this.#started ||= time > 0;
      if (this.#since === null) return;
      this.#clockChanges += 1;
      if (this.#clockChanges > this.#attempts && !seeking) this.#recovered(at - this.#since); // an attempt sets it, too
    } else if (this.#started && !paused && !seeking && at - this.#clock.at > STILL_MS) this.#underrun(at);
  }

  close() {
    this.#video.removeEventListener("waiting", this.#onWaiting);
  }

  /** @param {number} ms */
  #recovered(ms) {
    this.#hooks.recovered(ms);
    this.#since = null;
    this.#attempts = this.#clockChanges = 0;
  }

  // Seeks wait, too, and so does the first start.
  #onWaiting = () => {
    if (!this.#video.seeking && this.#started) this.#underrun(performance.now());
  };

  /** @param {number} at */
  #underrun(at) {
    this.#since ??= at;
    const doublings = Math.min(Math.max(this.#attempts - 1, 0), DOUBLINGS_MAX);
    if (at - this.#attemptedAt < PATIENCE_MS * 2 ** doublings) return; // on its way
    if (this.#hooks.bufferedAhead() > ENOUGH_S && at - this.#since < PATIENCE_MS) return;
    this.#attemptedAt = at;
    this.#attempts += 1;
    this.#clock.at = at;
    this.#hooks.recover(this.#attempts);
  }
}

// Notices when the clock of a playing element stands though nobody stopped it: the buffer ran dry.

const STILL_MS = 90; // a clock that stands for so long is dry, whatever the events say
const PATIENCE_MS = 300; // after a cure, and for a browser that has enough to go on by itself
const TRIES = 3; // after which patience, doubled each time, grows no more: to some browsers a cure is a new beginning
const ENOUGH_S = 0.7;

export class Dryness {
  #video;
  #hooks;
  #since = null; // when it began to stand
  #cured = -Infinity; // when something was done about it
  #cures = 0; // since it stands
  #changes = 0; // of the clock since then
  #clock = { at: 0, time: -1 };
  #moved = false;

  /** Hooks: inHand(): seconds appended ahead; cure(n): append and seek, for the nth time since it stands; over(ms): it plays again, after so long. */
  constructor(video, hooks) {
    this.#video = video;
    this.#hooks = hooks;
    video.addEventListener("waiting", this.#waits);
  }

  /** Once a tick. */
  look() {
    const { currentTime: time, seeking, paused } = this.#video;
    const at = performance.now();
    if (time !== this.#clock.time) {
      this.#clock = { at, time };
      this.#moved ||= time > 0;
      if (this.#since !== null && ++this.#changes > this.#cures && !seeking) this.#goesOn(at); // a cure sets the clock, too
    } else if (this.#moved && !paused && !seeking && at - this.#clock.at > STILL_MS) this.#dry(at);
  }

  #goesOn(at) {
    this.#hooks.over(at - this.#since);
    this.#since = null;
    this.#cures = this.#changes = 0;
  }

  close() {
    this.#video.removeEventListener("waiting", this.#waits);
  }

  // Seeks wait, too, and so does the first start.
  #waits = () => {
    if (!this.#video.seeking && this.#moved) this.#dry(performance.now());
  };

  #dry(at) {
    this.#since ??= at;
    if (at - this.#cured < PATIENCE_MS * 2 ** Math.min(Math.max(this.#cures - 1, 0), TRIES)) return; // on its way
    if (this.#hooks.inHand() > ENOUGH_S && at - this.#since < PATIENCE_MS) return;
    this.#cured = at;
    this.#cures += 1;
    this.#clock.at = at;
    this.#hooks.cure(this.#cures);
  }
}

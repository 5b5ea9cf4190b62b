// The course of an interview: which question is asked, heard, answered or skipped, and when. No document, only the
// player.

/** @import { Entry, InterviewState, PlayerError, Speaker } from "./types.d.ts" */
/** @import { Utterance } from "../avatar-player.d.ts" */

export const PACES = [0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4, 1.6];

/** States: `preparing` (not heard yet), `asking`, `listening` (the candidate answers), `trouble` (could not be asked;
 * `error` says why; `repeat` tries again), `done`. `onChange(interview)` is called after every change,
 * `onDone(interview)` once. */
export class Interview {
  /** @type {InterviewState} */ state = "preparing";
  /** @type {PlayerError | null} */ error = null;
  index = 0;
  /** @type {Entry[]} */ entries = [];
  /** @type {number | null} */ listeningSince = null; // performance.now()

  #player;
  #questions;
  #began = performance.now();
  /** @type {Utterance | null} */ #utterance = null; // the question that is being asked
  #hooks;

  /** @param {Speaker} player @param {string[]} questions
   * @param {{ onChange: (interview: Interview) => void, onDone: (interview: Interview) => void }} hooks */
  constructor(player, questions, hooks) {
    this.#player = player;
    this.#questions = questions;
    this.#hooks = hooks;
  }

  get total() {
    return this.#questions.length;
  }

  get question() {
    return this.#questions[this.index];
  }

  get last() {
    return this.index === this.total - 1;
  }

  /** Seconds since the interview began. */
  get seconds() {
    return (performance.now() - this.#began) / 1000;
  }

  begin() {
    if (this.state !== "done") this.#ask(); // it may have been ended meanwhile
  }

  repeat() {
    const entry = this.entries[this.index];
    if (entry && this.state !== "trouble") entry.repeats += 1;
    this.#ask();
  }

  /** The candidate has heard enough and answers. */
  interrupt() {
    if (this.state === "asking" || this.state === "preparing") this.#player.interrupt();
  }

  /** `skipped`: the candidate does not answer this one. */
  next({ skipped = false } = {}) {
    this.#closeEntry(skipped);
    if (this.last) {
      this.end();
      return;
    }
    this.index += 1;
    this.#ask();
  }

  end() {
    if (this.state === "done") return;
    this.#closeEntry(this.state !== "listening");
    this.#utterance = null;
    this.#player.interrupt();
    this.#player.setState("idle");
    this.#become("done");
    this.#hooks.onDone(this);
  }

  #ask() {
    const utterance = this.#player.speak({ text: this.question, interrupt: true });
    this.#utterance = utterance;
    this.#become("preparing");
    utterance.started.then(
      () => {
        if (this.#utterance !== utterance) return;
        this.#entry();
        this.#become("asking");
      },
      () => {}, // `ended` tells why
    );
    utterance.ended.then(({ outcome, error }) => {
      if (this.#utterance !== utterance) return;
      this.#utterance = null;
      if (outcome === "failed") this.#become("trouble", error);
      else this.#listen();
    });
  }

  #listen() {
    this.#entry().heardAt ??= this.seconds;
    this.#player.setState("listening");
    this.#become("listening");
    // Have the next question ready while the candidate answers. It is asked without, only later.
    if (!this.last) this.#player.prerender([this.#questions[this.index + 1]]).catch(() => {});
  }

  /** The entry of this question, begun now where it was not before. */
  #entry() {
    const { question, seconds: askedAt } = this;
    const fresh = { question, askedAt, heardAt: null, doneAt: null, repeats: 0, skipped: false };
    return (this.entries[this.index] ??= fresh);
  }

  /** @param {boolean} skipped */
  #closeEntry(skipped) {
    const entry = this.entries[this.index];
    if (!entry || entry.doneAt !== null) return;
    entry.doneAt = this.seconds;
    entry.skipped = skipped;
  }

  /** @param {InterviewState} state @param {PlayerError | null} [error] */
  #become(state, error = null) {
    this.listeningSince = state === "listening" ? (this.listeningSince ?? performance.now()) : null;
    this.state = state;
    this.error = error;
    this.#hooks.onChange(this);
  }
}

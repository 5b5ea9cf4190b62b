// The course of an interview: which question is asked, heard, answered or skipped, and when. No document, only the
// player.

/** @import { Entry, Interview as Declared, InterviewHooks, InterviewState } from "./interview.d.ts" */
/** @import { KeptInterview, Speaker } from "./interview.d.ts" */
/** @import { Nothing } from "./player/types.d.ts" */
/** @import { PlayerError, Utterance } from "./avatar-player.d.ts" */

/** @typedef {Nothing<Exclude<keyof Interview, keyof Declared>>} NothingElse */

export const PACES = [0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4, 1.6];

/** @implements {Declared} */
export class Interview {
  /** @type {InterviewState} */ state = "preparing";
  /** @type {PlayerError | null} */ error = null;
  index = 0;
  /** @type {Entry[]} */ entries = [];

  #player;
  #questions;
  #began;
  /** @type {Utterance | null} */ #utterance = null; // the question that is being asked
  /** @type {number | null} */ #listeningSince = null; // performance.now(), until which the answer was counted
  #hooks;

  /** @param {Speaker} player @param {string[]} questions @param {InterviewHooks} hooks
   * @param {KeptInterview | null} [kept] */
  constructor(player, questions, hooks, kept = null) {
    this.#player = player;
    this.#questions = questions;
    this.#hooks = hooks;
    this.#began = performance.now() - 1000 * (kept?.seconds ?? 0);
    if (!kept) return;
    this.state = "paused";
    this.index = kept.index;
    this.entries = kept.entries;
  }

  /** What a page keeps to go on with this interview after it was loaded again. @returns {KeptInterview} */
  get kept() {
    this.#countAnswer();
    const { index, entries, seconds } = this;
    return { questions: this.#questions, index, entries, seconds };
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

  /** Seconds of the answer to this question so far, without those in which it was asked again. */
  get answered() {
    this.#countAnswer();
    return this.entries[this.index]?.answered ?? 0;
  }

  begin() {
    if (this.state !== "done") this.#ask(); // it may have been ended meanwhile
  }

  /** After it was kept: the question is asked again, which the candidate did not ask for. */
  goOn() {
    if (this.state === "paused") this.#ask();
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
    this.#closeEntry(this.answered === 0);
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
    const fresh = { question, askedAt, heardAt: null, doneAt: null, answered: 0, repeats: 0, skipped: false };
    return (this.entries[this.index] ??= fresh);
  }

  /** @param {boolean} skipped */
  #closeEntry(skipped) {
    const entry = this.entries[this.index];
    if (!entry || entry.doneAt !== null) return;
    this.#countAnswer();
    entry.doneAt = this.seconds;
    entry.skipped = skipped;
  }

  #countAnswer() {
    const entry = this.entries[this.index];
    if (this.#listeningSince === null || !entry || entry.doneAt !== null) return;
    const now = performance.now();
    entry.answered += (now - this.#listeningSince) / 1000;
    this.#listeningSince = now;
  }

  /** @param {InterviewState} state @param {PlayerError | null} [error] */
  #become(state, error = null) {
    this.#countAnswer();
    this.#listeningSince = state === "listening" ? performance.now() : null;
    this.state = state;
    this.error = error;
    this.#hooks.onChange(this);
  }
}

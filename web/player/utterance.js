// One utterance, as the page holds it.

import { PlayerError } from "./errors.js";

const ID = /^[A-Za-z0-9_.:-]{1,64}$/;
const SOURCES = ["text", "audio", "deltas"];
let made = 0;

/** Checked options of `speak`. Throws a PlayerError that says what was seen and what is accepted. */
export function checked(what) {
  const options = typeof what === "string" ? { text: what } : { ...what };
  const refuse = (message) => {
    throw new PlayerError("bad_call", message);
  };
  const given = SOURCES.filter((name) => options[name] !== undefined && options[name] !== null && options[name] !== false);
  if (given.length !== 1) refuse(`give exactly one of text, audio and deltas; got ${given.join(" and ") || "none"}`);
  if (given[0] === "text" && (typeof options.text !== "string" || !options.text.trim())) refuse("text is a string that is not empty");
  const { audio } = options;
  if (given[0] === "audio" && !(audio instanceof Blob || audio instanceof ArrayBuffer || audio instanceof Uint8Array)) {
    refuse(`audio is a Blob, an ArrayBuffer or a Uint8Array, got ${Object.prototype.toString.call(audio)}`);
  }
  if (options.id !== undefined && !ID.test(options.id)) refuse(`an id has 1 to 64 of A-Z a-z 0-9 _ . : -, got ${JSON.stringify(options.id)}`);
  options.id ??= `p-${Date.now().toString(36)}-${(made += 1)}`;
  return options;
}

export class Utterance {
  #started = deferred();
  #ended = deferred();
  #write;

  /** @param options what `checked` gave; write: (utterance, {delta, flush, final}) => void; interrupt: (id) => void */
  constructor(options, write, interrupt) {
    this.options = options;
    this.id = options.id;
    this.interrupt = () => interrupt(this.id);
    this.#write = write;
    this.#started.promise.catch(() => {}); // who does not ask is not told
    if (options.text) this.text = options.text;
  }

  state = "queued";
  asked = performance.now();
  at = null; // milliseconds since 1970 when it was first heard
  text = "";
  complete = false; // deltas: `end` was called
  n = null; // the service's number
  cached = "no";
  timings = null; // what the service measured of itself, ms by stage
  words = [];
  cues = [];
  wordsTold = 0;

  get started() {
    return this.#started.promise;
  }

  get ended() {
    return this.#ended.promise;
  }

  get over() {
    return this.state !== "queued" && this.state !== "speaking";
  }

  write(delta) {
    this.#more({ delta: String(delta) });
  }

  flush() {
    this.#more({ flush: true });
  }

  end() {
    this.#more({ final: true });
  }

  #more(piece) {
    if (!this.options.deltas) throw new PlayerError("bad_call", "write, flush and end belong to an utterance with deltas", { id: this.id });
    if (this.complete) throw new PlayerError("bad_call", "the text is complete: end() was called", { id: this.id });
    if (this.over) return; // interrupted meanwhile: whoever writes need not look
    this.text += piece.delta ?? "";
    this.complete = piece.final === true;
    this.#write(this, piece);
  }

  heard(detail) {
    if (this.state !== "queued") return;
    this.state = "speaking";
    this.at = Date.now();
    this.#started.resolve(detail);
  }

  finish(outcome, error) {
    if (this.over) return false;
    this.state = outcome;
    const detail = { id: this.id, outcome, ...(error && { error }) };
    this.#started.reject(error ?? new PlayerError("interrupted", `utterance ${this.id} was ${outcome} before it was heard`, { id: this.id }));
    this.#ended.resolve(detail);
    return detail;
  }

  /** A message `words`. */
  addWords({ words, first_cue: first, cues }) {
    this.words.push(...words);
    this.cues.splice(first, Infinity, ...cues);
    if (!this.options.text && !this.options.deltas) this.text = this.words.map(({ text }) => text).join(" ");
  }
}

export function deferred() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}

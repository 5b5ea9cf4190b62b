// One utterance, as the page holds it.

import { PlayerError } from "./errors.js";
/** @import { Cue, EndedDetail, SpeakOptions, StartedDetail, Utterance as Declared } from "../avatar-player.d.ts" */
/** @import { Word } from "../avatar-player.d.ts" */
/** @import { Bytes, Deferred, Piece, Request, SpokenPart, WordsMessage } from "./types.d.ts" */

const ID = /^[A-Za-z0-9_.:-]{1,64}$/;
const SOURCES = /** @type {const} */ (["text", "audio", "deltas", "pcm"]);
const RATES = [16_000, 24_000, 48_000];
const FRAME_MS = 40;
let made = 0;

/** Checked options of `speak`. Throws a PlayerError that says what was seen and what is accepted.
 * @param {string | SpeakOptions} what @returns {Request} */
export function checked(what) {
  /** @type {SpeakOptions} */ const options = typeof what === "string" ? { text: what } : { ...what };
  /** @type {(message: string) => never} */ const refuse = (message) => {
    throw new PlayerError("bad_call", message);
  };
  const sources = SOURCES.filter((name) => (options[name] ?? false) !== false);
  if (sources.length !== 1) {
    refuse(`give exactly one of text, audio, deltas and pcm; got ${sources.join(" and ") || "none"}`);
  }
  const { text, audio, id } = options;
  if (sources[0] === "text" && (typeof text !== "string" || !text.trim())) refuse("text is a string that is not empty");
  const bytes = audio instanceof Blob || audio instanceof ArrayBuffer || audio instanceof Uint8Array;
  if (sources[0] === "audio" && !bytes) {
    refuse(`audio is a Blob, an ArrayBuffer or a Uint8Array, got ${Object.prototype.toString.call(audio)}`);
  }
  if (sources[0] === "pcm" && !RATES.includes(/** @type {number} */ (options.pcm))) {
    refuse(`pcm is a rate: ${RATES.join(", ")}; got ${JSON.stringify(options.pcm)}`);
  }
  if (id !== undefined && !ID.test(id)) refuse(`an id has 1 to 64 of A-Z a-z 0-9 _ . : -, got ${JSON.stringify(id)}`);
  return { ...options, id: id ?? `p-${Date.now().toString(36)}-${(made += 1)}` };
}

/** @implements {Declared} */
export class Utterance {
  /** @type {Deferred<StartedDetail>} */ #started = deferred();
  /** @type {Deferred<EndedDetail>} */ #ended = deferred();
  started = this.#started.promise;
  ended = this.#ended.promise;
  #write;

  /** @type {Declared["state"]} */ state = "queued";
  requestedAt = performance.now();
  /** @type {number | null} */ at = null; // milliseconds since 1970 when it was first heard
  text = "";
  complete = false; // deltas, pcm: `end` was called
  /** @type {PlayerError | null} */ error = null; // why it fails once what came is heard

  // What the service told of it.
  /** @type {number | null} */ number = null; // the service counts utterances, too
  /** @type {StartedDetail["cached"]} */ cached = "no";
  voice = ""; // the engine that spoke
  /** @type {Record<string, number> | null} */ timings = null; // what the service measured of itself, ms by stage
  /** @type {Word[]} */ words = [];
  /** @type {Cue[]} */ cues = [];
  wordsEmitted = 0;
  frames = 0; // that came, in whole segments
  /** @type {SpokenPart[]} */ parts = []; // what they are made of
  whole = false; // all of its frames came

  // How far it went out, and what came of it: outgoing.js, conversation.js.
  /** @type {string | null} */ key = null; // of its run on the timeline: numbers alone count anew in every session
  wireId; // its id for the service: another one when a recording is sent again
  announced = false;
  /** @type {Piece[]} */ pieces = [];
  sentPieces = 0;
  acceptedPieces = 0;
  /** @type {Bytes[]} */ sound = []; // pcm
  sentSound = 0;
  uploaded = false; // audio, pcm: the service was told that it is complete
  heardMs = 0;
  waiting = false; // for more text or sound
  cancelled = false;
  tries = 0;
  /** @type {number | null} */ sentAt = null; // performance.now(), where it had nothing to wait behind

  /** @param {Request} options what `checked` gave @param {(utterance: Utterance, piece: Piece) => void} write
   * @param {(id: string) => void} interrupt */
  constructor(options, write, interrupt) {
    this.options = options;
    this.id = this.wireId = options.id;
    this.interrupt = () => interrupt(this.id);
    this.#write = write;
    this.started.catch(() => {}); // who does not ask is not told
    if (options.text) this.text = options.text;
  }

  /** The service is to say it from its beginning. */
  forgetReceived() {
    Object.assign(this, { key: null, frames: 0, parts: [], whole: false, words: [], cues: [], wordsEmitted: 0 });
  }

  /** What another session must know to go on with it; null when it begins. */
  get received() {
    const { frames, parts } = this;
    const part = parts.findLast(({ first_frame }) => first_frame <= frames);
    return frames > 0 && part ? { frames, part } : null;
  }

  /** Finished, interrupted or failed. */
  get done() {
    return this.state !== "queued" && this.state !== "speaking";
  }

  /** @param {string | Int16Array | Uint8Array | ArrayBuffer} more */
  write(more) {
    if (this.options.pcm) this.#more({}, samples(more, this.id));
    else this.#more({ delta: String(more) });
  }

  flush() {
    this.#more({ flush: true });
  }

  end() {
    this.#more({ final: true });
  }

  /** @param {Piece} piece @param {Bytes} [sound] */
  #more(piece, sound) {
    const { id } = this;
    if (!this.options.deltas && !this.options.pcm) {
      throw new PlayerError("bad_call", "write, flush and end belong to an utterance with deltas or pcm", { id });
    }
    if (this.complete) throw new PlayerError("bad_call", "the speech is complete: end() was called", { id });
    if (this.done) return; // interrupted meanwhile: whoever writes need not look
    if (sound) this.sound.push(sound);
    this.text += piece.delta ?? "";
    this.complete = piece.final === true;
    this.#write(this, piece);
  }

  /** @param {StartedDetail} detail */
  heard(detail) {
    if (this.state !== "queued") return;
    this.state = "speaking";
    this.at = Date.now();
    this.#started.resolve(detail);
  }

  /** @param {EndedDetail["outcome"]} outcome @param {PlayerError | null} [error]
   * @returns {EndedDetail | null} null when it was done before */
  finish(outcome, error) {
    if (this.done) return null;
    this.state = outcome;
    const { id } = this;
    const detail = { id, outcome, heard_ms: this.#heardOfSound(outcome === "finished"), ...(error && { error }) };
    const unheard = `utterance ${id} was ${outcome} before it was heard`;
    this.#started.reject(error ?? new PlayerError("interrupted", unheard, { id }));
    this.#ended.resolve(detail);
    return detail;
  }

  /** How much was heard: of the sound that was written, where there are pauses in it that the service knows of.
   * @param {boolean} whole */
  #heardOfSound(whole) {
    const { options, parts, heardMs } = this;
    if (!options.pcm) return Math.round(heardMs);
    const bytes = this.sound.reduce((sum, { length }) => sum + length, 0);
    const soundMs = Math.floor((bytes / 2 / options.pcm) * 1000);
    if (whole) return soundMs;
    const at = parts.findLastIndex(({ first_frame: frame }) => frame * FRAME_MS <= heardMs);
    if (at < 0) return 0;
    const end = parts.slice(at + 1).find(({ first_frame: frame }) => frame > parts[at].first_frame)?.sound_ms;
    const { sound_ms: begins = 0, first_frame: frame } = parts[at];
    return Math.round(Math.min(begins + heardMs - frame * FRAME_MS, end ?? soundMs));
  }

  /** @param {Pick<WordsMessage, "first_word" | "words" | "first_cue" | "cues">} message */
  addWords({ first_word: firstWord, words, first_cue: firstCue, cues }) {
    this.words.splice(firstWord, Infinity, ...words);
    this.cues.splice(firstCue, Infinity, ...cues);
    if (!this.options.text && !this.options.deltas) this.text = this.words.map(({ text }) => text).join(" ");
  }
}

/** Bytes of 16-bit samples, little-endian as every browser's own are; a copy, because a page may use its buffer again.
 * @param {unknown} more @param {string} id @returns {Bytes} */
function samples(more, id) {
  if (more instanceof ArrayBuffer) return new Uint8Array(more.slice(0));
  if (more instanceof Int16Array || more instanceof Uint8Array) {
    return new Uint8Array(more.buffer, more.byteOffset, more.byteLength).slice();
  }
  const seen = Object.prototype.toString.call(more);
  throw new PlayerError("bad_call", `sound is an Int16Array, or its bytes as Uint8Array or ArrayBuffer, got ${seen}`, { id });
}

/** @template Value @returns {Deferred<Value>} */
export function deferred() {
  const parts = /** @type {Deferred<Value>} */ ({});
  parts.promise = new Promise((resolve, reject) => {
    Object.assign(parts, { resolve, reject });
  });
  return parts;
}

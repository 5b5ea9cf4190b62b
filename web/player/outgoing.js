// What was asked of the service and is not finished: sent in order, held back where it would be too much, sent again
// where it was lost, with how far it was received.

/** @import { Bytes, ClientMessage, Limits, Piece, Timer } from "./types.d.ts" */
/** @import { Utterance } from "./utterance.js" */
/** @import { SpeakOptions } from "../avatar-player.d.ts" */

const DELTA_MS = 30; // text that is written letter by letter goes in pieces
const AUDIO_PIECE_BYTES = 256 * 1024;
const CACHED_MAX = 500;
const LATENCY_MAX_S = 1.5; // what took longer says nothing of the next one
const LEARNING_RATE = 0.25;
const ID_MAX = 64; // characters, for the service

/** @param {SpeakOptions} options */
const cacheKey = ({ text, voice, speed, language }) => JSON.stringify([text, voice, speed, language]);

/** Add text, to the last piece where that says the same. @param {Piece[]} pieces @param {Piece} piece
 * @param {boolean} join the last piece may still change */
function append(pieces, piece, join = true) {
  const last = pieces.at(-1);
  if (join && last && !last.flush && !last.final) {
    Object.assign(last, piece, { delta: (last.delta ?? "") + (piece.delta ?? "") });
  } else pieces.push({ delta: "", ...piece });
}

/** The same text in as few pieces as say the same. @param {Piece[]} pieces */
function joined(pieces) {
  /** @type {Piece[]} */ const fewer = [];
  for (const piece of pieces) append(fewer, piece);
  return fewer;
}

/** Its sound goes out in binary messages, which belong to the one that was announced last.
 * @param {Utterance} utterance */
const isUpload = ({ options }) => Boolean(options.audio || options.pcm);

/** How long until speech is there, seconds: expected, and learned. Speech that comes late makes the picture jump,
 * speech that comes early waits. */
class Latency {
  /** @type {Set<string>} */ #cached = new Set();
  #fresh = { mean: 0.2, spread: 0.03 };
  #known = { mean: 0.1, spread: 0.03 };

  /** @param {SpeakOptions} options */
  #kind(options) {
    return this.#cached.has(cacheKey(options)) ? this.#known : this.#fresh;
  }

  /** @param {SpeakOptions} options */
  of(options) {
    const { mean, spread } = this.#kind(options);
    return mean + spread / 2;
  }

  /** @param {SpeakOptions} options @param {number} seconds */
  learn(options, seconds) {
    const kind = this.#kind(options);
    const change = Math.min(seconds, LATENCY_MAX_S) - kind.mean;
    kind.mean += LEARNING_RATE * change;
    kind.spread += LEARNING_RATE * (Math.abs(change) - kind.spread);
    if (options.text) this.markCached(options);
  }

  /** @param {SpeakOptions} options */
  markCached(options) {
    this.#cached.add(cacheKey(options));
    const [oldest] = this.#cached;
    if (this.#cached.size > CACHED_MAX) this.#cached.delete(oldest);
  }
}

export class Outgoing {
  #send;
  #predictPhase;
  #rendition;
  #queueMax = 16; // until the service says
  /** @type {Utterance[]} */ #unfinished = []; // whose end the service has not told
  latency = new Latency();
  /** @type {Timer | undefined} */ #timer;
  #held = false;

  /** @param {(message: Bytes | ClientMessage) => boolean} send false when there is no connection
   * @param {(latencyS: number) => number | undefined} predictPhase the idle frame to speak from; undefined without a
   * timeline
   * @param {() => number} rendition of the pictures, by the line */
  constructor(send, predictPhase, rendition) {
    this.#send = send;
    this.#predictPhase = predictPhase;
    this.#rendition = rendition;
  }

  /** @param {Utterance} utterance */
  add(utterance) {
    this.#unfinished.push(utterance);
    this.#announce();
  }

  /** @param {Utterance} utterance @param {Piece} piece */
  write(utterance, piece) {
    if (utterance.options.pcm) {
      this.#sendSound(utterance);
      return;
    }
    append(utterance.pieces, piece, utterance.pieces.length > utterance.sentPieces);
    if (piece.flush || piece.final) this.#sendPieces(utterance);
    else this.#timer ??= setTimeout(() => this.#sendAllPieces(), DELTA_MS);
  }

  /** @param {Utterance[]} utterances */
  interrupt(utterances) {
    for (const utterance of utterances) {
      utterance.cancelled = true;
      if (!utterance.announced) this.remove(utterance);
      else if (this.#unfinished.includes(utterance)) this.#send({ type: "interrupt", id: utterance.wireId });
    }
  }

  /** A new session: all that did not come whole is to be said again, from `catchUp` on. Returns it.
   * @param {Limits} limits @param {boolean} goOn where it stopped; else from the beginning */
  reset(limits, goOn) {
    this.#queueMax = limits.queued_utterances;
    this.#held = true;
    this.#unfinished = this.#unfinished.filter(({ cancelled, whole }) => !cancelled && !(whole && goOn));
    for (const utterance of this.#unfinished) {
      Object.assign(utterance, { number: null, announced: false, waiting: false, sentPieces: 0, acceptedPieces: 0 });
      Object.assign(utterance, { sentSound: 0, uploaded: false });
      utterance.pieces = joined(utterance.pieces);
      if (!goOn) utterance.forgetReceived();
    }
    return [...this.#unfinished];
  }

  /** Something is still to come of what was asked for. */
  get busy() {
    return this.#unfinished.some(({ cancelled, waiting }) => !cancelled && !waiting);
  }

  /** Utterances of which something came, by their numbers. */
  get begun() {
    const begun = this.#unfinished.filter(({ frames, number }) => frames > 0 && number !== null);
    return new Map(begun.map((utterance) => [utterance.number, utterance]));
  }

  /** Connected again, but what the service got is not known yet: nothing new is said until `catchUp`, or it would be
   * said twice. */
  hold() {
    this.#held = true;
  }

  /** Connected, and all that was missed is there: what the service did not get is sent again. Returns those that it is
   * asked to go on with in another utterance. */
  catchUp() {
    this.#held = false;
    /** @type {Utterance[]} */ const again = [];
    for (const utterance of [...this.#unfinished]) {
      if (utterance.cancelled) this.#send({ type: "interrupt", id: utterance.wireId });
      else if (utterance.announced && utterance.number === null) utterance.announced = false;
      else if (isUpload(utterance) && utterance.announced && utterance.acceptedPieces === 0) {
        this.#uploadAgain(utterance);
        again.push(utterance);
      }
      utterance.sentPieces = utterance.acceptedPieces;
    }
    this.#announce();
    this.#sendAllPieces();
    return again;
  }

  /** Half a recording may have arrived, and nobody knows which half. @param {Utterance} utterance */
  #uploadAgain(utterance) {
    this.#send({ type: "interrupt", id: utterance.wireId });
    utterance.tries += 1;
    const suffix = `.${utterance.tries}`;
    utterance.wireId = utterance.id.slice(0, ID_MAX - suffix.length) + suffix;
    Object.assign(utterance, { announced: false, number: null, sentSound: 0, uploaded: false });
  }

  close() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#unfinished = [];
  }

  // --- what the service told -------------------------------------------------------------------------------

  /** @param {Utterance} utterance */
  firstSegmentArrived({ sentAt, options }) {
    if (sentAt !== null && options.text) this.latency.learn(options, (performance.now() - sentAt) / 1000);
  }

  /** Nothing more comes of it. @param {Utterance} utterance */
  remove(utterance) {
    this.#unfinished = this.#unfinished.filter((one) => one !== utterance);
    this.#announce();
  }

  /** @param {string} wireId */
  byWireId(wireId) {
    return this.#unfinished.find((utterance) => utterance.wireId === wireId) ?? null;
  }

  /** @param {number} number */
  byNumber(number) {
    return this.#unfinished.find((utterance) => utterance.number === number) ?? null;
  }

  // --- sending ---------------------------------------------------------------------------------------------

  #announce() {
    if (this.#held) return;
    let before = 0;
    for (const utterance of [...this.#unfinished]) {
      if (!utterance.announced && before < this.#queueMax && !this.#speak(utterance, before)) return;
      if (isUpload(utterance) && !utterance.uploaded && !utterance.cancelled) return; // one at a time, and in order
      before += 1;
    }
  }

  /** @param {Utterance} utterance @param {number} before so many stand before it */
  #speak(utterance, before) {
    const { text, audio, deltas, pcm, voice, speed, language } = utterance.options;
    const { received } = utterance;
    const rendition = this.#rendition();
    /** @type {ClientMessage} */ const speak = {
      type: "speak",
      id: utterance.wireId,
      ...(text !== undefined ? { text } : audio ? { audio: /** @type {const} */ (true) } : pcm ? { pcm } : { deltas }),
      ...(voice && { voice }),
      ...(speed && { speed }),
      ...(language && { language }),
      ...(received && { received }),
      ...(rendition && { rendition }),
      ...this.#phase(utterance, before),
    };
    if (!this.#send(speak)) return false;
    utterance.announced = true;
    // Behind another one it is the other that takes the time.
    utterance.sentAt = before === 0 ? performance.now() : null;
    if (audio) this.#upload(utterance, audio);
    else if (pcm) this.#sendSound(utterance);
    else this.#sendPieces(utterance);
    return true;
  }

  /** Where the loop will stand when the speech comes; behind other speech the service knows better.
   * @param {Utterance} utterance @param {number} before */
  #phase(utterance, before) {
    const phase = before === 0 ? this.#predictPhase(this.latency.of(utterance.options)) : undefined;
    return phase === undefined ? {} : { phase };
  }

  /** @param {Utterance} utterance @param {NonNullable<SpeakOptions["audio"]>} audio */
  async #upload(utterance, audio) {
    const { wireId } = utterance;
    const bytes = new Uint8Array(await new Blob([/** @type {BlobPart} */ (audio)]).arrayBuffer());
    if (utterance.wireId !== wireId || !utterance.announced || utterance.done) return;
    for (let at = 0; at < bytes.length; at += AUDIO_PIECE_BYTES) this.#send(bytes.subarray(at, at + AUDIO_PIECE_BYTES));
    this.#endUpload(utterance);
  }

  /** @param {Utterance} utterance */
  #endUpload(utterance) {
    const phase = this.#phase(utterance, this.#unfinished.indexOf(utterance));
    utterance.uploaded = this.#send({ type: "audio_end", id: utterance.wireId, ...phase });
    if (utterance.uploaded) this.#announce();
  }

  /** What there is of it, as it comes. @param {Utterance} utterance */
  #sendSound(utterance) {
    const { sound, wireId: id, frames } = utterance;
    if (this.#held || !utterance.announced || utterance.uploaded || utterance.done) return;
    if (utterance.waiting && utterance.sentSound < sound.length && this.#unfinished[0] === utterance) {
      this.#send({ type: "played", id, frames, ...this.#phase(utterance, 0) });
    }
    while (utterance.sentSound < sound.length) {
      if (!this.#send(sound[utterance.sentSound])) return;
      utterance.sentSound += 1;
    }
    if (utterance.complete) this.#endUpload(utterance);
  }

  #sendAllPieces() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const utterance of [...this.#unfinished]) {
      if (utterance.options.pcm) this.#sendSound(utterance);
      else this.#sendPieces(utterance);
    }
  }

  /** @param {Utterance} utterance */
  #sendPieces(utterance) {
    if (this.#held || !utterance.options.deltas || !utterance.announced || utterance.done) return;
    while (utterance.sentPieces < utterance.pieces.length) {
      const idle = this.#unfinished[0] === utterance && (utterance.waiting || utterance.words.length === 0);
      const phase = idle ? this.#phase(utterance, 0) : {};
      if (!this.#send({ type: "text", id: utterance.wireId, ...utterance.pieces[utterance.sentPieces], ...phase })) {
        return;
      }
      utterance.sentPieces += 1;
    }
  }
}

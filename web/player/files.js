// Where the browser has no media source: the idle loop as a file, and every utterance as one finished mp4. No
// session.

import { asPlayerError, jsonPost, request } from "./errors.js";
import { deferred } from "./utterance.js";
/** @import { Cue, ReadyDetail } from "../avatar-player.d.ts" */
/** @import { Bytes, Deferred, Transport, TransportOptions } from "./types.d.ts" */
/** @import { Utterance } from "./utterance.js" */

const VTT_CUE = /^(?:(\d+):)?(\d+):(\d+)[.,](\d{3})\s+-->\s+(?:(\d+):)?(\d+):(\d+)[.,](\d{3})/;
const TICK_MS = 40;

/** @implements {Transport} */
export class Files {
  mode = /** @type {const} */ ("file");
  timeline = null;
  #base;
  #start;
  #credentials;
  #video;
  #hooks;
  /** @type {Utterance[]} */ #queue = [];
  /** @type {{ utterance: Utterance, abort: AbortController } | null} */ #current = null;
  /** @type {Deferred<ReadyDetail>} */ #opened = deferred();
  opened = this.#opened.promise;
  #avatar = "";
  #idleUrl = "";
  #talkUrl = "";
  #timer;

  /** @param {TransportOptions} options */
  constructor({ base, start, credentials, video, hooks }) {
    this.#base = base;
    this.#start = start;
    this.#credentials = credentials;
    this.#video = video;
    this.#hooks = hooks;
    this.#timer = setInterval(() => this.#follow(), TICK_MS);
    video.addEventListener("ended", this.#onEnded);
    this.#open().then(this.#opened.resolve, (error) => {
      this.#opened.reject(error);
      hooks.failed(asPlayerError(error));
    });
  }

  /** @type {Transport["speak"]} */
  speak(utterance) {
    this.#queue.push(utterance);
    this.#next();
  }

  /** @type {Transport["write"]} */
  write(_utterance, piece) {
    if (piece.final) this.#next();
  }

  /** @type {Transport["interrupt"]} */
  interrupt(utterances) {
    this.#queue = this.#queue.filter((utterance) => !utterances.includes(utterance));
    if (this.#current && utterances.includes(this.#current.utterance)) {
      this.#current.abort.abort();
      this.#current = null;
      this.#idle();
    }
    for (const utterance of utterances) this.#hooks.ended(utterance, "interrupted");
    this.#next();
  }

  setState() {}

  close() {
    clearInterval(this.#timer);
    this.#video.removeEventListener("ended", this.#onEnded);
    this.#current?.abort.abort();
    this.#current = null;
    this.#queue = [];
    for (const url of [this.#idleUrl, this.#talkUrl]) if (url) URL.revokeObjectURL(url);
  }

  async #open() {
    const health = await (await this.#get("/health")).json();
    /** @type {string} */ const wanted = this.#start.avatar ?? health.default_avatar;
    /** @type {{ id: string }[]} */
    const avatars = (await (await this.#get("/v1/avatars")).json()).data;
    this.#avatar = avatars.find(({ id }) => id === wanted || id === `interviewer_${wanted}`)?.id ?? wanted;
    const idle = `/v1/avatars/${encodeURIComponent(this.#avatar)}/idle`;
    this.#idleUrl = URL.createObjectURL(await (await this.#get(idle)).blob());
    await this.#idle();
    const lips = { name: health.engine.name, reason: health.engine.reason };
    const speech = { name: health.speech.engine, reason: health.speech.reason };
    const detail = { session: null, mode: this.mode, avatar: this.#avatar, lips, speech, resumed: false };
    this.#hooks.notice("file_mode", "this browser has no media source: every answer is made whole before it plays");
    this.#hooks.ready(detail);
    return detail;
  }

  /** @param {string} path @param {RequestInit} [options] */
  #get(path, options) {
    return request(new URL(path, this.#base).href, options, this.#credentials);
  }

  #idle() {
    this.#video.loop = true;
    this.#video.src = this.#idleUrl;
    return this.#video.play().catch(() => {}); // another load may take its place
  }

  async #next() {
    await this.opened.catch(() => {});
    const [utterance] = this.#queue;
    if (this.#current || !utterance) return;
    if (!utterance.complete && (utterance.options.deltas || utterance.options.pcm)) return;
    this.#queue.shift();
    const abort = new AbortController();
    const current = (this.#current = { utterance, abort });
    try {
      await this.#play(utterance, abort.signal);
    } catch (error) {
      if (this.#current !== current) return;
      this.#current = null;
      const playerError = asPlayerError(error, utterance.id);
      this.#hooks.error(playerError);
      this.#hooks.ended(utterance, "failed", playerError);
      this.#idle();
      this.#next();
    }
  }

  /** @param {Utterance} utterance @param {AbortSignal} signal */
  async #play(utterance, signal) {
    const post = { ...this.#postOf(utterance), signal };
    const response = await request(new URL("/v1/videos", this.#base).href, post, this.#credentials, true);
    const film = await response.blob();
    utterance.voice = response.headers.get("X-Speech-Engine") ?? "";
    const captions = `/v1/videos/${encodeURIComponent(response.headers.get("X-Utterance-Id") ?? "")}/captions.vtt`;
    const vtt = await (await this.#get(captions, { signal })).text();
    signal.throwIfAborted();
    utterance.cues = parseVtt(vtt);
    if (this.#talkUrl) URL.revokeObjectURL(this.#talkUrl);
    this.#talkUrl = URL.createObjectURL(film);
    this.#video.loop = false;
    this.#video.src = this.#talkUrl;
    this.#hooks.placed(utterance, 0);
    await this.#video.play();
    this.#hooks.started(utterance, performance.now() - utterance.requestedAt);
  }

  /** @param {Utterance} utterance */
  #postOf({ text, options, sound }) {
    const audio = options.pcm ? wav(sound, options.pcm) : options.audio;
    /** @type {Record<string, string | number | boolean>} */ const fields = { avatar: this.#avatar, stream: false };
    for (const name of /** @type {const} */ (["voice", "speed", "language"])) {
      const value = options[name] ?? this.#start[name];
      if (value !== undefined) fields[name] = value;
    }
    if (!audio) return jsonPost({ ...fields, text });
    const body = new FormData();
    for (const [name, value] of Object.entries(fields)) body.set(name, String(value));
    body.set("audio", audio instanceof Blob ? audio : new Blob([/** @type {BlobPart} */ (audio)]), "speech");
    return { method: "POST", body };
  }

  #onEnded = () => {
    const ended = this.#current?.utterance;
    if (!ended) return;
    this.#current = null;
    this.#idle();
    this.#hooks.ended(ended, "finished");
    this.#next();
  };

  #follow() {
    const speaking = this.#current?.utterance.state === "speaking" ? this.#current.utterance : null;
    this.#hooks.tick(speaking, this.#video.currentTime * 1000);
  }
}

/** A file of 16-bit mono samples. @param {Bytes[]} sound @param {number} rate */
function wav(sound, rate) {
  const bytes = sound.reduce((sum, { length }) => sum + length, 0);
  const head = new DataView(new ArrayBuffer(44));
  const letters = [..."RIFF....WAVEfmt ................data"].map((letter) => letter.charCodeAt(0));
  for (const [at, letter] of letters.entries()) head.setUint8(at, letter);
  const numbers = { 4: 36 + bytes, 16: 16, 24: rate, 28: 2 * rate, 40: bytes };
  for (const [at, number] of Object.entries(numbers)) head.setUint32(Number(at), number, true);
  for (const [at, number] of Object.entries({ 20: 1, 22: 1, 32: 2, 34: 16 })) head.setUint16(Number(at), number, true);
  return new Blob([head, .../** @type {BlobPart[]} */ (sound)]);
}

/** The cues of a WebVTT file. @param {string} source */
export function parseVtt(source) {
  /** @type {(time: string[]) => number} */ const ms = ([hours, minutes, seconds, thousandths]) =>
    ((Number(hours ?? 0) * 60 + Number(minutes)) * 60 + Number(seconds)) * 1000 + Number(thousandths);
  /** @type {Cue[]} */ const cues = [];
  for (const block of source.replace(/\r\n?/g, "\n").split(/\n{2,}/)) {
    const lines = block.split("\n");
    for (const [at, line] of lines.entries()) {
      const times = VTT_CUE.exec(line)?.slice(1);
      if (!times) continue;
      const text = lines.slice(at + 1).filter(Boolean);
      cues.push({ start_ms: ms(times.slice(0, 4)), end_ms: ms(times.slice(4)), lines: text });
      break;
    }
  }
  return cues;
}

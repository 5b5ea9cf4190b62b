// The interview app's TTSManager: a queue of texts, spoken one after the other. With a player the avatar speaks;
// where it cannot, sound alone does.

import { Credentials } from "./player/credentials.js";
import { jsonPost, messageOf, PlayerError, request } from "./player/errors.js";
/** @import { TTSManager as Declared, TTSOptions as Options } from "./tts.d.ts" */
/** @import { Nothing } from "./player/types.d.ts" */
/** @import { AvatarPlayer, NoticeDetail } from "./avatar-player.d.ts" */

/** @typedef {NonNullable<Parameters<Declared["speak"]>[1]>} SpeakOptions */
/** @typedef {{ text: string, voice: string, speed: number }} Speech */
/** @typedef {Nothing<Exclude<keyof TTSManager, keyof Declared>>} NothingElse */

const ORIGIN = new URL(import.meta.url).origin;

// Ten milliseconds of nothing, to unlock an audio element with: a WAV file of 80 samples of 8 bits at 8 kHz. In words
// of 4 bytes: "RIFF" and its size, "WAVE", "fmt " and its size, one channel of PCM, samples and bytes a second, 8 bits
// in frames of 1 byte, "data" and its size.
const HEADER = [0x46464952, 116, 0x45564157, 0x20746d66, 16, 0x10001, 8000, 8000, 0x80001, 0x61746164, 80];
const SILENCE = new Blob([new Uint32Array(HEADER), new Uint8Array(80).fill(128)], { type: "audio/wav" });

// Sound alone would refuse these as well.
const REFUSALS = ["bad_call", "bad_request", "text_too_long"];

/** @implements {Declared} */
export class TTSManager {
  #player;
  #src;
  #token;
  /** @type {{ text: string, options: SpeakOptions, resolve: () => void, reject: (reason: unknown) => void }[]} */
  #queue = [];
  /** @type {AbortController | null} */ #current = null; // stops what is heard
  /** @type {HTMLAudioElement | null} */ #audio = null; // one element for all, unlocked once
  #alone = false;
  #on;

  /** @param {Options} [options] */
  constructor({ voice = "nova", speed = 1.1, player = null, src, token, onStart, onEnd, onError, onNotice } = {}) {
    this.voice = voice;
    this.speed = speed;
    this.#player = player;
    this.#src = src ?? (player?.src || ORIGIN);
    this.#token = token;
    this.#on = { start: onStart, end: onEnd, error: onError, notice: onNotice };
  }

  get isPlaying() {
    return this.#current !== null;
  }

  get queue() {
    return this.#queue.map(({ text }) => text);
  }

  async unlock() {
    const audio = this.#element();
    const silence = URL.createObjectURL(SILENCE);
    audio.src = silence;
    const sound = audio.play().then(() => true, () => false);
    const seen = this.#player?.unlock();
    const allowed = (await sound) || (await seen);
    URL.revokeObjectURL(silence);
    return Boolean(allowed);
  }

  /** @param {string} text @param {SpeakOptions} [options] @returns {Promise<void>} */
  speak(text, options = {}) {
    if (options.interrupt) this.stop();
    return new Promise((resolve, reject) => {
      this.#queue.push({ text, options, resolve, reject });
      this.#next();
    });
  }

  stop() {
    const waiting = this.#queue.splice(0);
    this.#current?.abort();
    for (const { resolve } of waiting) resolve();
  }

  async #next() {
    if (this.#current) return;
    const next = this.#queue.shift();
    if (!next) return;
    const { text, options, resolve, reject } = next;
    const { signal } = (this.#current = new AbortController());
    try {
      const speech = { text, voice: options.voice ?? this.voice, speed: options.speed ?? this.speed };
      if (!(await this.#shown(speech, signal)) && !signal.aborted) await this.#heard(speech, signal);
      this.#on.end?.(text);
      resolve();
    } catch (error) {
      if (signal.aborted) {
        this.#on.end?.(text);
        resolve();
      } else {
        this.#on.error?.(error instanceof Error ? error : new Error(messageOf(error)), text);
        reject(error);
      }
    } finally {
      this.#current = null;
      this.#next();
    }
  }

  /** Whether the avatar spoke it, to its end or until it was stopped.
   * @param {Speech} speech @param {AbortSignal} signal */
  async #shown(speech, signal) {
    const player = this.#player;
    if (!player || this.#alone) return false;
    try {
      await player.connect();
      if (signal.aborted) return true;
      const utterance = player.speak(speech);
      signal.addEventListener("abort", () => utterance.interrupt());
      utterance.started.then(() => this.#on.start?.(speech.text), () => {});
      const { outcome, error } = await utterance.ended;
      if (outcome !== "failed") return true;
      throw error;
    } catch (error) {
      if (signal.aborted) return true;
      const { code = "" } = /** @type {{ code?: string }} */ (error); // of any copy of the player
      if (REFUSALS.includes(code)) throw error;
      this.#goOnAlone(player, messageOf(error));
      return false;
    }
  }

  /** @param {AvatarPlayer} player @param {string} why */
  #goOnAlone(player, why) {
    this.#alone = true;
    player.addEventListener("ready", () => (this.#alone = false), { once: true });
    /** @type {NoticeDetail} */
    const notice = { code: "sound_only", message: `the avatar cannot be shown (${why}); the voice goes on alone` };
    player.dispatchEvent(new CustomEvent("notice", { detail: notice }));
    this.#on.notice?.(notice);
  }

  /** @param {Speech} speech @param {AbortSignal} signal */
  async #heard(speech, signal) {
    const address = new URL("/api/core/tts/synthesize/", this.#src).href;
    const credentials = new Credentials(this.#token ?? this.#player?.token ?? null);
    const response = await request(address, { ...jsonPost(speech), signal }, credentials, true);
    const url = URL.createObjectURL(await response.blob());
    const audio = this.#element();
    try {
      await new Promise((resolve, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason));
        audio.onended = resolve;
        audio.onerror = () => reject(new PlayerError("media", audio.error?.message || "the sound could not be played"));
        audio.onplaying = () => this.#on.start?.(speech.text);
        audio.src = url;
        audio.play().catch(reject);
      });
    } finally {
      audio.onended = audio.onerror = audio.onplaying = null;
      audio.pause();
      audio.removeAttribute("src");
      URL.revokeObjectURL(url);
    }
  }

  #element() {
    this.#audio ??= new Audio();
    return this.#audio;
  }
}

export default TTSManager;

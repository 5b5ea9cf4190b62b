// The interview app's TTSManager: a queue of texts, spoken one after the other. With a player the avatar speaks; where it cannot, sound alone does.

import { ask, PlayerError } from "./player/errors.js";

const ORIGIN = new URL(import.meta.url).origin;

// Ten milliseconds of nothing, to unlock an audio element with: 80 samples of 8 bits at 8 kHz.
const SILENCE = (() => {
  const wav = new Uint8Array(124).fill(128, 44);
  const view = new DataView(wav.buffer);
  for (const [at, text] of [[0, "RIFF"], [8, "WAVEfmt "], [36, "data"]]) wav.set(new TextEncoder().encode(text), at);
  for (const [at, value] of [[4, 116], [16, 16], [24, 8000], [28, 8000], [40, 80]]) view.setUint32(at, value, true);
  for (const [at, value] of [[20, 1], [22, 1], [32, 1], [34, 8]]) view.setUint16(at, value, true);
  return wav;
})();

export class TTSManager {
  #player;
  #src;
  #queue = []; // {text, options, resolve, reject}
  #current = null; // {stop()} of what is heard
  #audio = null; // one element for all, unlocked once
  #alone = false;
  #on;

  constructor({ voice = "nova", speed = 1.1, player = null, src, onStart, onEnd, onError, onNotice } = {}) {
    this.voice = voice;
    this.speed = speed;
    this.#player = player;
    this.#src = src ?? (player?.src || ORIGIN);
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
    const silence = URL.createObjectURL(new Blob([SILENCE], { type: "audio/wav" }));
    audio.src = silence;
    const sound = audio.play().then(
      () => true,
      () => false,
    );
    const seen = this.#player?.unlock();
    const allowed = (await sound) || (await seen);
    URL.revokeObjectURL(silence);
    return Boolean(allowed);
  }

  speak(text, options = {}) {
    if (options.interrupt) this.stop();
    return new Promise((resolve, reject) => {
      this.#queue.push({ text, options, resolve, reject });
      this.#next();
    });
  }

  stop() {
    const waiting = this.#queue.splice(0);
    this.#current?.stop();
    for (const { resolve } of waiting) resolve();
  }

  async #next() {
    if (this.#current || this.#queue.length === 0) return;
    const { text, options, resolve, reject } = this.#queue.shift();
    const current = (this.#current = { stopped: false, stop() {} });
    const halt = new AbortController();
    current.stop = () => {
      current.stopped = true;
      halt.abort();
    };
    try {
      const said = { text, voice: options.voice ?? this.voice, speed: options.speed ?? this.speed };
      if (!(await this.#shown(said, halt.signal)) && !current.stopped) await this.#heard(said, halt.signal);
      this.#on.end?.(text);
      resolve();
    } catch (error) {
      if (current.stopped) {
        this.#on.end?.(text);
        resolve();
      } else {
        this.#on.error?.(error, text);
        reject(error);
      }
    } finally {
      this.#current = null;
      this.#next();
    }
  }

  /** Whether the avatar spoke it, to its end or until it was stopped. */
  async #shown(said, signal) {
    if (!this.#player || this.#alone) return false;
    try {
      await this.#player.connect();
      const utterance = this.#player.speak(said);
      signal.addEventListener("abort", () => utterance.interrupt());
      utterance.started.then(
        () => this.#on.start?.(said.text),
        () => {},
      );
      const { outcome, error } = await utterance.ended;
      if (outcome !== "failed") return true;
      throw error;
    } catch (error) {
      if (signal.aborted) return true;
      if (error.code === "bad_call" || error.code === "bad_request" || error.code === "text_too_long") throw error; // sound alone would refuse it as well
      this.#announce(error);
      return false;
    }
  }

  #announce(error) {
    this.#alone = true;
    const again = () => (this.#alone = false);
    this.#player.addEventListener("ready", again, { once: true });
    const notice = { code: "sound_only", message: `the avatar cannot be shown (${error.message}); the voice goes on alone` };
    this.#player.dispatchEvent(new CustomEvent("notice", { detail: notice }));
    this.#on.notice?.(notice);
  }

  async #heard(said, signal) {
    const response = await ask(new URL("/api/core/tts/synthesize/", this.#src).href, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(said),
      signal,
    });
    const url = URL.createObjectURL(await response.blob());
    const audio = this.#element();
    try {
      await new Promise((resolve, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason));
        audio.onended = resolve;
        audio.onerror = () => reject(new PlayerError("media", audio.error?.message || "the sound could not be played"));
        audio.onplaying = () => this.#on.start?.(said.text);
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

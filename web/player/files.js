// Where the browser has no media source: the idle loop as a file, and every utterance as one finished mp4. No session.

import { ask, PlayerError } from "./errors.js";
import { deferred } from "./utterance.js";

const VTT_CUE = /^(?:(\d+):)?(\d+):(\d+)[.,](\d{3})\s+-->\s+(?:(\d+):)?(\d+):(\d+)[.,](\d{3})/;
const TICK_MS = 40;

/** The same hooks as a Conversation. */
export class Files {
  mode = "file";
  timeline = null;
  #base;
  #start;
  #video;
  #hooks;
  #queue = [];
  #current = null; // {utterance, abort}
  #opened = deferred();
  #avatar = "";
  #idleUrl = null;
  #talkUrl = null;
  #timer;

  constructor({ base, start, video, hooks }) {
    this.#base = base;
    this.#start = start;
    this.#video = video;
    this.#hooks = hooks;
    this.#timer = setInterval(() => this.#follow(), TICK_MS);
    video.addEventListener("ended", this.#onEnded);
    this.#open().then(this.#opened.resolve, (error) => {
      this.#opened.promise.catch(() => {});
      this.#opened.reject(error);
      hooks.failed(error);
    });
  }

  get opened() {
    return this.#opened.promise;
  }

  speak(utterance) {
    this.#queue.push(utterance);
    this.#next();
  }

  write(utterance, piece) {
    if (piece.final) this.#next();
  }

  interrupt(utterances) {
    const heard = utterances.includes(this.#current?.utterance) && this.#current.utterance.state === "speaking";
    this.#queue = this.#queue.filter((utterance) => !utterances.includes(utterance));
    if (utterances.includes(this.#current?.utterance)) {
      this.#current.abort.abort();
      this.#current = null;
      this.#idle();
    }
    for (const utterance of utterances) this.#hooks.ended(utterance, "interrupted");
    this.#next();
    return heard;
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
    const health = await (await ask(new URL("/health", this.#base).href)).json();
    const wanted = this.#start.avatar ?? health.default_avatar;
    const avatars = (await (await ask(new URL("/v1/avatars", this.#base).href)).json()).data;
    this.#avatar = avatars.find(({ id }) => id === wanted || id === `interviewer_${wanted}`)?.id ?? wanted;
    const loop = await (await ask(new URL(`/v1/avatars/${encodeURIComponent(this.#avatar)}/idle`, this.#base).href)).blob();
    this.#idleUrl = URL.createObjectURL(loop);
    await this.#idle();
    const detail = {
      session: null,
      mode: this.mode,
      avatar: this.#avatar,
      lips: { name: health.engine.name, reason: health.engine.reason },
      speech: { name: health.speech.engine, reason: health.speech.reason },
      resumed: false,
    };
    this.#hooks.notice("file_mode", "this browser has no media source: every answer is made whole before it plays");
    this.#hooks.ready(detail);
    return detail;
  }

  #idle() {
    this.#video.loop = true;
    this.#video.src = this.#idleUrl;
    return this.#video.play().catch(() => {}); // another load may take its place
  }

  async #next() {
    await this.#opened.promise.catch(() => {});
    const [utterance] = this.#queue;
    if (this.#current || !utterance || (utterance.options.deltas && !utterance.complete)) return;
    this.#queue.shift();
    const abort = new AbortController();
    const current = (this.#current = { utterance, abort });
    try {
      await this.#play(utterance, abort.signal);
    } catch (error) {
      if (this.#current !== current) return;
      this.#current = null;
      const told = error instanceof PlayerError ? error : new PlayerError("media", error.message, { cause: error, id: utterance.id });
      this.#hooks.error(told);
      this.#hooks.ended(utterance, "failed", told);
      this.#idle();
      this.#next();
    }
  }

  async #play(utterance, signal) {
    const { audio } = utterance.options;
    const fields = { avatar: this.#avatar, stream: false };
    for (const name of ["voice", "speed", "language"]) {
      const value = utterance.options[name] ?? this.#start[name];
      if (value !== undefined) fields[name] = value;
    }
    let body;
    if (audio) {
      body = new FormData();
      for (const [name, value] of Object.entries(fields)) body.set(name, String(value));
      body.set("audio", audio instanceof Blob ? audio : new Blob([audio]), "speech");
    } else body = JSON.stringify({ ...fields, text: utterance.text });
    const headers = audio ? {} : { "Content-Type": "application/json" };
    const response = await ask(new URL("/v1/videos", this.#base).href, { method: "POST", headers, body, signal });
    const film = await response.blob();
    const captions = `/v1/videos/${encodeURIComponent(response.headers.get("X-Utterance-Id"))}/captions.vtt`;
    const vtt = await (await ask(new URL(captions, this.#base).href, { signal })).text();
    signal.throwIfAborted();
    utterance.cues = parseVtt(vtt);
    if (this.#talkUrl) URL.revokeObjectURL(this.#talkUrl);
    this.#talkUrl = URL.createObjectURL(film);
    this.#video.loop = false;
    this.#video.src = this.#talkUrl;
    this.#hooks.placed(utterance, 0);
    await this.#video.play();
    this.#hooks.started(utterance, performance.now() - utterance.asked);
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

/** The cues of a WebVTT file: [{start_ms, end_ms, lines}]. */
export function parseVtt(source) {
  const ms = ([hours, minutes, seconds, thousandths]) => ((Number(hours ?? 0) * 60 + Number(minutes)) * 60 + Number(seconds)) * 1000 + Number(thousandths);
  const cues = [];
  for (const block of source.replace(/\r\n?/g, "\n").split(/\n{2,}/)) {
    const lines = block.split("\n");
    const at = lines.findIndex((line) => VTT_CUE.test(line));
    if (at < 0) continue;
    const [, ...times] = VTT_CUE.exec(lines[at]);
    cues.push({ start_ms: ms(times.slice(0, 4)), end_ms: ms(times.slice(4)), lines: lines.slice(at + 1).filter(Boolean) });
  }
  return cues;
}

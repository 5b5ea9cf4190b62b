// <avatar-player>: an interviewer who lives, speaks, can be interrupted, and is captioned. Types and words:
// avatar-player.d.ts, docs/player.md.

import { voiceSettingsOf, WithAttributes } from "./player/attributes.js";
import { Captions } from "./player/captions.js";
import { Conversation } from "./player/conversation.js";
import { Credentials } from "./player/credentials.js";
import { jsonPost, messageOf, PlayerError, request } from "./player/errors.js";
import { Files } from "./player/files.js";
import { mediaSourceClass } from "./player/media.js";
import { Quality } from "./player/quality.js";
import { Sound } from "./player/sound.js";
import { checked, Utterance } from "./player/utterance.js";
import { View } from "./player/view.js";
import { VoiceActivity } from "./player/voice-activity.js";
/** @import { AvatarPlayer as Declared, EndedDetail, NoticeDetail, PlayerState } from "./avatar-player.d.ts" */
/** @import { SpeakOptions, Token, VoiceActivityOptions } from "./avatar-player.d.ts" */
/** @import { Nothing, PersonState, Transport, TransportHooks } from "./player/types.d.ts" */

/** @typedef {"off" | "connecting" | "open" | "lost" | "failed"} ConnectionState */
/** What the class has beside its declaration: another member fails the check of types.
 * @typedef {"connectedCallback" | "disconnectedCallback" | "attributeChangedCallback" | "internals"} Undeclared
 * @typedef {Nothing<Exclude<keyof AvatarPlayer, keyof Declared | keyof WithAttributes | Undeclared>>} NothingElse */

/** @type {PersonState[]} */ const STATES = ["idle", "listening", "thinking"];
const TRANSCRIPT_MAX = 1_000;
const COVER_MS = 150; // the picture before the first speaking one, at most
const SILENT_MAX_MS = 400; // after an interruption, where nothing had to be cut
const PORTRAIT = { moving: 512, still: 1024 }; // pixels: before the video is there, and in its place

export { PlayerError };

/** @implements {Declared} */
export class AvatarPlayer extends WithAttributes {
  /** @satisfies {(keyof Declared)[]} */
  static observedAttributes = ["avatar", "src", "captions", "motion", "muted", "label"];

  #view = new View(this);
  #sound = new Sound(this.#view.video);
  #quality = new Quality(this.#view.video);
  #captions = new Captions(this.#view.video, this.#view.captions, (utterance, lines) =>
    this.emit("caption", utterance && { id: utterance.id, lines }),
  );
  #reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
  /** @type {Transport | null} */ #transport = null;
  /** @type {ConnectionState} */ #connection = "off";
  /** @type {PersonState} */ #requestedState = "idle"; // by `setState`
  /** @type {PlayerState} */ #state = "off";
  /** @type {Utterance[]} */ #utterances = [];
  /** @type {Utterance | null} */ #heard = null; // the one that is heard
  /** @type {VoiceActivity | null} */ #voiceActivity = null;
  /** @type {Token} */ #token = null;
  #credentials = new Credentials(null);
  #portraitAddress = "";
  /** @type {string | null} */ #portraitUrl = null; // where it was fetched with a token
  #quiet = false; // nothing comes of what is waited for
  #locked = false; // sound waits for a gesture, and that was told
  /** @type {(() => void) | null} */ #restoreSound = null;

  constructor() {
    super();
    const { video } = this.#view;
    this.#reducedMotion.addEventListener("change", () => this.#showMotion());
    this.#sound.onlost = () => {
      this.#locked = true;
      this.#notice("sound_paused", "the system took the sound; unlock() inside a gesture brings it back");
      this.#showStatus();
    };
    this.#sound.onfound = () => {
      this.#locked = false;
      this.#notice("sound_on", "the sound is there");
      this.#showStatus();
    };
    this.#view.portrait.addEventListener("error", () => (this.#portraitAddress = "")); // it is tried again
    video.addEventListener("seeked", () => this.#restoreSound?.());
    video.addEventListener("playing", () => (this.#view.playing = true));
    video.addEventListener("pause", () => {
      // Nobody here pauses: it was the system, a media key, or a script that unmuted without a gesture.
      if (this.#transport && !video.ended) video.play().catch(() => this.#notifyLocked());
    });
  }

  connectedCallback() {
    this.takeEarlyProperties();
    this.#showMotion();
    this.#view.name(this.label);
  }

  disconnectedCallback() {
    // Moving the element within the page is no farewell.
    queueMicrotask(() => {
      if (!this.isConnected) this.disconnect();
    });
  }

  /** @param {string} name @param {string | null} before @param {string | null} after */
  attributeChangedCallback(name, before, after) {
    if (before === after) return;
    if (name === "captions") this.#captions.visible = this.captions !== "off";
    if (name === "motion") this.#showMotion();
    if (name === "muted") this.#sound.enabled = !this.muted;
    if (name === "label") this.#view.name(this.label);
    if (name === "avatar" || name === "src") {
      this.#showPortrait();
      if (this.#transport) {
        this.disconnect();
        this.#open();
      }
    }
  }

  // --- what it is at ---------------------------------------------------------------------------------------

  get state() {
    return this.#state;
  }

  get token() {
    return this.#token;
  }

  set token(token) {
    this.#token = token;
    this.#credentials = new Credentials(token);
    this.#portraitAddress = "";
    this.#showPortrait();
  }

  get mode() {
    return this.#transport?.mode ?? null;
  }

  get moving() {
    return this.motion === "on" || (this.motion === "auto" && !this.#reducedMotion.matches);
  }

  get unlocked() {
    return this.#sound.unlocked;
  }

  /** @returns {Utterance | null} */
  get current() {
    return this.#heard ?? this.#utterances.find((utterance) => !utterance.done) ?? null;
  }

  get transcript() {
    return this.#utterances.map(({ id, text, at, state: outcome }) => ({ id, text, at, outcome }));
  }

  get counters() {
    this.#quality.sample();
    return { ...this.#quality.counts };
  }

  /** For tests and measurements: the timeline, the video, the sound's graph, the text track. */
  get internals() {
    const { video, overlay } = this.#view;
    const { track } = this.#captions;
    return { timeline: this.#transport?.timeline, video, overlay, graph: this.#sound.graph, track };
  }

  // --- what it does ----------------------------------------------------------------------------------------

  async connect() {
    return this.#open().opened;
  }

  /** The transport, a new one where there is none. */
  #open() {
    if (this.#transport && this.#connection !== "failed") return this.#transport;
    this.disconnect();
    this.#setConnection("connecting");
    const Way = mediaSourceClass() ? Conversation : Files;
    const start = { ...voiceSettingsOf(this), ...(this.avatar && { avatar: this.avatar }) };
    const { video } = this.#view;
    const shared = { credentials: this.#credentials, video, quality: this.#quality, hooks: this.#hooks };
    const options = { base: this.address("/"), start, ...shared };
    /** @type {Transport} */ const transport = (this.#transport = new Way(options));
    transport.opened.catch(() => {}); // told by the event `error`
    return transport;
  }

  /** @param {string | SpeakOptions} what */
  speak(what) {
    const utterance = new Utterance(
      { ...voiceSettingsOf(this), ...checked(what) },
      (written, piece) => this.#transport?.write(written, piece),
      (id) => this.interrupt(id),
    );
    const { id } = utterance;
    if (this.#utterances.some((earlier) => earlier.id === id)) {
      throw new PlayerError("bad_call", `the id ${id} was used before`, { id });
    }
    if (utterance.options.interrupt) this.interrupt();
    const transport = this.#open();
    this.#utterances.push(utterance);
    if (this.#utterances.length > TRANSCRIPT_MAX) this.#utterances.shift();
    if (!this.#sound.unlocked && !this.muted) this.#notifyLocked();
    transport.speak(utterance);
    this.#updateState();
    return utterance;
  }

  /** @param {string} [id] */
  interrupt(id) {
    const stopped = this.#utterances.filter((one) => !one.done && (id === undefined || one.id === id));
    if (stopped.length === 0) return [];
    const began = performance.now();
    const audible = this.#heard !== null && stopped.includes(this.#heard);
    const silent = audible ? this.#sound.silence() + performance.now() - began : 0;
    if (audible) {
      this.#restoreWhenCut();
      this.#quality.time("interrupt_ms", silent);
    }
    this.#transport?.interrupt(stopped);
    const ids = stopped.map((utterance) => utterance.id);
    this.emit("interrupted", { ids, silent_ms: silent });
    return ids;
  }

  /** @param {PersonState} state */
  setState(state) {
    if (!STATES.includes(state)) {
      throw new PlayerError("bad_call", `a state is one of ${STATES.join(", ")}, got ${JSON.stringify(state)}`);
    }
    this.#requestedState = state;
    this.#transport?.setState(state);
    this.#updateState();
  }

  async unlock() {
    const allowed = await this.#sound.unlock();
    this.#locked = false;
    this.#showStatus();
    return allowed;
  }

  /** @param {string[]} texts */
  async prerender(texts) {
    const body = { texts, ...voiceSettingsOf(this), ...(this.avatar && { avatar: this.avatarId }) };
    await request(this.address("/v1/prerender"), jsonPost(body), this.#credentials, true);
    for (const text of texts) this.#transport?.markCached?.({ text, ...voiceSettingsOf(this) });
  }

  /** @param {VoiceActivityOptions} [options] */
  async listen(options = {}) {
    this.stopListening();
    const activity = new VoiceActivity((speaking) => {
      this.emit("voice", { speaking });
      if (speaking && this.#requestedState !== "listening") this.setState("listening");
      if (speaking && (options.interrupt ?? true) && this.#heard) this.interrupt();
    }, options);
    this.#voiceActivity = activity;
    try {
      await activity.start();
    } catch (error) {
      activity.stop();
      const message = `the microphone cannot be heard: ${messageOf(error)}`;
      this.#notice("vad", message);
      throw new PlayerError("unsupported", message, { cause: error });
    }
  }

  stopListening() {
    this.#voiceActivity?.stop();
    this.#voiceActivity = null;
  }

  disconnect() {
    this.stopListening();
    const transport = this.#transport;
    this.#transport = null;
    transport?.close();
    for (const utterance of this.#utterances) this.#finish(utterance, "interrupted");
    this.#view.video.removeAttribute("src");
    if (transport) this.#view.video.load();
    this.#view.playing = false;
    this.#setConnection("off");
  }

  // --- what the transport reports --------------------------------------------------------------------------

  /** @type {TransportHooks} */ #hooks = {
    ready: (detail) => {
      this.#setConnection("open");
      this.#showPortrait(detail.avatar);
      if (!this.moving) this.#notice("still", "motion is off: a portrait with sound and captions");
      this.emit("ready", detail);
    },
    quiet: (quiet) => {
      this.#quiet = quiet;
      if (quiet) this.#notice("quiet", "the service does not answer; what came is heard, and it goes on by itself");
      else this.#notice("heard", "the service answers again");
      this.#showStatus();
    },
    lost: () => {
      this.#quiet = false;
      this.#notice("reconnecting", "the connection was lost; it is sought");
      this.#setConnection("lost");
    },
    failed: (error) => this.#fail(error),
    notice: (code, message, id) => this.#notice(code, message, id),
    error: (error) => this.emit("error", error),
    started: (utterance, ms) => this.#begin(utterance, ms),
    ended: (utterance, outcome, error) => this.#finish(utterance, outcome, error),
    tick: (utterance, ms) => {
      if (this.#transport?.timeline) this.#transport.timeline.soundLatency = this.#sound.latency;
      this.#follow(utterance, ms);
    },
    placed: (utterance, originS) => this.#captions.place(utterance, originS),
    seeking: (why) => {
      if (why === "start") this.#view.cover(COVER_MS);
      else if (why === "cut" || why === "late") this.#view.cover();
    },
  };

  /** @param {Utterance} utterance @param {number} ms */
  #begin(utterance, ms) {
    if (utterance.done) return;
    this.#heard = utterance;
    const { id, voice, cached, timings } = utterance;
    const detail = { id, first_frame_ms: ms, voice, cached, timings_ms: timings ?? {} };
    const first = utterance.state === "queued";
    this.#view.uncover();
    utterance.heard(detail);
    this.#updateState();
    if (first) this.emit("started", detail);
  }

  /** @param {Utterance} utterance @param {EndedDetail["outcome"]} outcome @param {PlayerError | null} [error] */
  #finish(utterance, outcome, error) {
    const detail = utterance.finish(outcome, error);
    if (!detail) return;
    this.#captions.clear(utterance);
    if (this.#heard === utterance) {
      this.#heard = null;
      this.#captions.show();
    }
    this.#updateState();
    this.emit("ended", detail);
  }

  /** @param {Utterance | null} utterance @param {number} ms */
  #follow(utterance, ms) {
    if (utterance) utterance.heardMs = ms;
    if (!utterance || utterance.done || utterance.state === "queued") {
      this.#captions.show();
      return;
    }
    if (!this.#heard) {
      this.#heard = utterance; // heard again after a pause
      this.#updateState();
    }
    this.#captions.show(utterance, ms);
    const { id, words } = utterance;
    while (utterance.wordsEmitted < words.length && words[utterance.wordsEmitted].start_ms <= ms) {
      const index = utterance.wordsEmitted;
      utterance.wordsEmitted += 1;
      this.emit("word", { id, index, ...words[index] });
    }
  }

  /** @param {PlayerError} error */
  #fail(error) {
    const waiting = this.#utterances.filter((utterance) => !utterance.done);
    this.#connection = "failed";
    this.#transport?.close();
    for (const utterance of waiting) this.#finish(utterance, "failed", error);
    this.#setConnection("failed", error.message);
    this.emit("error", error);
  }

  // --- small things ----------------------------------------------------------------------------------------

  /** @param {ConnectionState} connection */
  #setConnection(connection, detail = "") {
    this.#connection = connection;
    this.#showStatus(detail);
    this.#updateState();
  }

  /** The state follows from the connection, what is heard or will be, and `setState`. */
  #updateState() {
    const state = this.#currentState();
    if (state === this.#state) return;
    const before = this.#state;
    this.#state = state;
    this.dataset.state = state;
    this.emit("statechange", { state, before });
  }

  /** @returns {PlayerState} */
  #currentState() {
    if (this.#connection === "open") {
      if (this.#heard) return "speaking";
      return this.#utterances.some((utterance) => !utterance.done) ? "waiting" : this.#requestedState;
    }
    if (this.#connection === "lost") return this.#heard ? "speaking" : "reconnecting";
    return this.#connection;
  }

  #showStatus(detail = "") {
    const connection = this.#connection;
    const locked = this.#locked && !this.#sound.unlocked && !this.muted;
    if (connection === "connecting") this.#view.showStatus("connecting");
    else if (connection === "lost") this.#view.showStatus("reconnecting");
    else if (connection === "failed") this.#view.showStatus("failed", detail, "retry", () => this.#open());
    else if (connection === "open" && this.#quiet) this.#view.showStatus("quiet");
    else if (connection === "open" && locked) this.#view.showStatus("locked", "", "unlock", () => this.unlock());
    else this.#view.showStatus();
  }

  #notifyLocked() {
    if (this.#locked) return;
    this.#locked = true;
    this.#notice("locked", "sound waits for a gesture: call unlock() inside a click or key press");
    this.#showStatus();
  }

  #showMotion() {
    this.#view.still = !this.moving;
    this.#showPortrait();
  }

  #showPortrait(avatar = this.avatarId) {
    if (!this.isConnected || !avatar) return;
    const size = this.moving ? PORTRAIT.moving : PORTRAIT.still;
    const address = this.address(`/v1/avatars/${encodeURIComponent(avatar)}/portrait?size=${size}`);
    if (address === this.#portraitAddress) return;
    this.#portraitAddress = address;
    if (this.#token) this.#fetchPortrait(address);
    else this.#view.portrait.src = address;
  }

  /** An element cannot show a token itself. @param {string} address */
  async #fetchPortrait(address) {
    const credentials = this.#credentials;
    const response = await request(address, undefined, credentials).catch(() => null); // the session tells why
    const picture = await response?.blob().catch(() => null);
    if (!picture && credentials === this.#credentials) this.#portraitAddress = "";
    if (!picture || credentials !== this.#credentials || !this.isConnected) return;
    if (this.#portraitUrl) URL.revokeObjectURL(this.#portraitUrl);
    this.#portraitUrl = this.#view.portrait.src = URL.createObjectURL(picture);
  }

  #restoreWhenCut() {
    const restore = () => {
      clearTimeout(timer);
      this.#restoreSound = null;
      this.#sound.restore();
    };
    const timer = setTimeout(restore, SILENT_MAX_MS);
    this.#restoreSound = restore;
  }

  /** @param {NoticeDetail["code"]} code @param {string} message @param {string} [id] */
  #notice(code, message, id) {
    this.emit("notice", { code, message, ...(id && { id }) });
  }
}

// A server that renders pages has no such elements; a page may have two copies of this.
if (globalThis.customElements && !customElements.get("avatar-player")) {
  customElements.define("avatar-player", AvatarPlayer);
}

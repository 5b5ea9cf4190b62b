// <avatar-player>: an interviewer who lives, speaks, can be interrupted, and is captioned. Types and words: avatar-player.d.ts, docs/player.md.

import { mannerOf, WithAttributes } from "./player/attributes.js";
import { Captions } from "./player/captions.js";
import { Conversation } from "./player/conversation.js";
import { ask, PlayerError } from "./player/errors.js";
import { Files } from "./player/files.js";
import { mediaSourceClass } from "./player/media.js";
import { Quality } from "./player/quality.js";
import { Sound } from "./player/sound.js";
import { checked, Utterance } from "./player/utterance.js";
import { View } from "./player/view.js";
import { VoiceActivity } from "./player/voice-activity.js";

const STATES = ["idle", "listening", "thinking"];
const KEPT = 1_000;
const HELD_MS = 150; // the picture before the first speaking one, at most

export { PlayerError };

export class AvatarPlayer extends WithAttributes {
  static observedAttributes = ["avatar", "src", "captions", "motion", "muted", "label"];

  #view = new View(this);
  #sound = new Sound(this.#view.video);
  #quality = new Quality(this.#view.video);
  #captions = new Captions(this.#view.video, this.#view.captions, (utterance, lines) => this.tell("caption", utterance && { id: utterance.id, lines }));
  #reduced = matchMedia("(prefers-reduced-motion: reduce)");
  #engine = null;
  #link = "off"; // off | connecting | open | lost | failed
  #asked = "idle"; // by setState
  #state = "off";
  #utterances = [];
  #spoken = null; // the utterance that is heard
  #ears = null;
  #told = new Set(); // notices that are said once
  #restoring = null;

  constructor() {
    super();
    const { video } = this.#view;
    this.#reduced.addEventListener("change", () => this.#showMotion());
    this.#sound.onlost = () => {
      this.#told.add("locked");
      this.#notice("sound_paused", "the system took the sound; unlock() inside a gesture brings it back");
      this.#showStatus();
    };
    this.#sound.onfound = () => {
      this.#told.delete("locked");
      this.#notice("sound_on", "the sound is there");
      this.#showStatus();
    };
    video.addEventListener("seeked", () => this.#restoring?.());
    video.addEventListener("playing", () => (this.#view.lives = true));
    video.addEventListener("pause", () => {
      // Nobody here pauses: it was the system, a media key, or a script that unmuted without a gesture.
      if (this.#engine && !video.ended) video.play().catch(() => this.#lock());
    });
  }

  connectedCallback() {
    this.#showMotion();
    this.#view.name(this.label);
    this.#showPortrait();
  }

  disconnectedCallback() {
    // Moving the element within the page is no farewell.
    queueMicrotask(() => this.isConnected || this.disconnect());
  }

  attributeChangedCallback(name, before, after) {
    if (before === after) return;
    if (name === "captions") this.#captions.visible = this.captions !== "off";
    if (name === "motion") this.#showMotion();
    if (name === "muted") this.#sound.wanted = !this.muted;
    if (name === "label") this.#view.name(this.label);
    if (name === "avatar" || name === "src") {
      this.#showPortrait();
      if (this.#engine) {
        this.disconnect();
        this.connect().catch(() => {}); // told by the event `error`
      }
    }
  }

  // --- what it is at -------------------------------------------------------------------------------------------------------

  get state() {
    return this.#state;
  }

  get mode() {
    return this.#engine?.mode ?? null;
  }

  get moving() {
    return this.motion === "on" || (this.motion === "auto" && !this.#reduced.matches);
  }

  get unlocked() {
    return this.#sound.unlocked;
  }

  get current() {
    return this.#spoken ?? this.#utterances.find((utterance) => !utterance.over) ?? null;
  }

  get transcript() {
    return this.#utterances.map(({ id, text, at, state: outcome }) => ({ id, text, at, outcome }));
  }

  get counters() {
    this.#quality.look();
    return { ...this.#quality.counts };
  }

  /** For tests and measurements: the timeline, the video, the sound's graph, the text track. */
  get internals() {
    return { timeline: this.#engine?.timeline, video: this.#view.video, graph: this.#sound.graph, track: this.#captions.track, over: this.#view.over };
  }

  // --- what it does --------------------------------------------------------------------------------------------------------

  async connect() {
    if (this.#engine && this.#link !== "failed") return this.#engine.opened;
    this.disconnect();
    this.#go("connecting");
    const Engine = mediaSourceClass() ? Conversation : Files;
    const start = { ...mannerOf(this), ...(this.avatar && { avatar: this.avatar }) };
    this.#engine = new Engine({ base: this.address("/"), start, video: this.#view.video, quality: this.#quality, hooks: this.#hooks() });
    return this.#engine.opened;
  }

  speak(what) {
    const utterance = new Utterance(
      { ...mannerOf(this), ...checked(what) },
      (one, piece) => this.#engine?.write(one, piece),
      (id) => this.interrupt(id),
    );
    if (this.#utterances.some(({ id }) => id === utterance.id)) throw new PlayerError("bad_call", `the id ${utterance.id} was used before`, { id: utterance.id });
    if (utterance.options.interrupt) this.interrupt();
    if (!this.#engine || this.#link === "failed") this.connect().catch(() => {}); // told by the event `error`
    this.#utterances.push(utterance);
    if (this.#utterances.length > KEPT) this.#utterances.shift();
    if (!this.#sound.unlocked && !this.muted) this.#lock();
    this.#engine.speak(utterance);
    this.#settle();
    return utterance;
  }

  interrupt(id) {
    const stopped = this.#utterances.filter((utterance) => !utterance.over && (id === undefined || utterance.id === id));
    if (stopped.length === 0) return [];
    const began = performance.now();
    const audible = stopped.includes(this.#spoken);
    const silent = audible ? this.#sound.silence() + performance.now() - began : 0;
    if (audible) {
      this.#restoreWhenCut();
      this.#quality.time("interrupt_ms", silent);
    }
    this.#engine.interrupt(stopped);
    const ids = stopped.map((utterance) => utterance.id);
    this.tell("interrupted", { ids, silent_ms: silent });
    return ids;
  }

  setState(state) {
    if (!STATES.includes(state)) throw new PlayerError("bad_call", `a state is one of ${STATES.join(", ")}, got ${JSON.stringify(state)}`);
    this.#asked = state;
    this.#engine?.setState(state);
    this.#settle();
  }

  async unlock() {
    const allowed = await this.#sound.unlock();
    this.#told.delete("locked");
    this.#showStatus();
    return allowed;
  }

  async prerender(texts) {
    const body = JSON.stringify({ texts, ...mannerOf(this), ...(this.avatar && { avatar: this.avatarId }) });
    await ask(this.address("/v1/prerender"), { method: "POST", headers: { "Content-Type": "application/json" }, body });
    for (const text of texts) this.#engine?.know?.({ text, ...mannerOf(this) });
  }

  async listen(options = {}) {
    this.stopListening();
    const ears = new VoiceActivity((speaking) => {
      this.tell("voice", { speaking });
      if (speaking && (options.interrupt ?? true) && this.#spoken) this.interrupt();
    }, options);
    this.#ears = ears;
    try {
      await ears.start();
    } catch (error) {
      this.stopListening();
      this.#notice("vad", `the microphone cannot be heard: ${error.message}`);
      throw new PlayerError("unsupported", `the microphone cannot be heard: ${error.message}`, { cause: error });
    }
  }

  stopListening() {
    this.#ears?.stop();
    this.#ears = null;
  }

  disconnect() {
    this.stopListening();
    const engine = this.#engine;
    this.#engine = null;
    engine?.close();
    for (const utterance of this.#utterances) this.#finish(utterance, "interrupted");
    this.#view.video.removeAttribute("src");
    if (engine) this.#view.video.load();
    this.#view.lives = false;
    this.#go("off");
  }

  // --- what the engine tells -----------------------------------------------------------------------------------------------

  #hooks() {
    return {
      ready: (detail) => {
        this.#go("open");
        this.#showPortrait(detail.avatar);
        if (!this.moving) this.#notice("still", "motion is off: a portrait with sound and captions");
        this.tell("ready", detail);
      },
      lost: () => {
        this.#notice("reconnecting", "the connection was lost; it is sought");
        this.#go("lost");
      },
      failed: (error) => this.#fail(error),
      notice: (code, message, id) => this.#notice(code, message, id),
      error: (error) => this.tell("error", error),
      started: (utterance, ms) => this.#begin(utterance, ms),
      ended: (utterance, outcome, error) => this.#finish(utterance, outcome, error),
      tick: (utterance, ms) => {
        if (this.#engine?.timeline) this.#engine.timeline.soundLatency = this.#sound.latency;
        this.#follow(utterance, ms);
      },
      placed: (utterance, originS) => this.#captions.place(utterance, originS),
      seeking: (why) => {
        if (why === "start") this.#view.cover(HELD_MS);
        else if (why === "cut" || why === "late") this.#view.cover();
      },
    };
  }

  #begin(utterance, ms) {
    if (utterance.over) return;
    this.#spoken = utterance;
    const detail = { id: utterance.id, first_frame_ms: ms, cached: utterance.cached, timings_ms: utterance.timings ?? {} };
    const first = utterance.state === "queued";
    this.#view.uncover();
    utterance.heard(detail);
    this.#settle();
    if (first) this.tell("started", detail);
  }

  #finish(utterance, outcome, error) {
    const detail = utterance.finish(outcome, error);
    if (!detail) return;
    this.#captions.clear(utterance);
    if (this.#spoken === utterance) {
      this.#spoken = null;
      this.#captions.show();
    }
    this.#settle();
    this.tell("ended", detail);
  }

  #follow(utterance, ms) {
    if (!utterance || utterance.over || utterance.state === "queued") return this.#captions.show();
    if (!this.#spoken) {
      this.#spoken = utterance; // heard again after a pause
      this.#settle();
    }
    this.#captions.show(utterance, ms);
    while (utterance.wordsTold < utterance.words.length && utterance.words[utterance.wordsTold].start_ms <= ms) {
      const index = utterance.wordsTold;
      utterance.wordsTold += 1;
      this.tell("word", { id: utterance.id, index, ...utterance.words[index] });
    }
    return undefined;
  }

  #fail(error) {
    const waiting = this.#utterances.filter((utterance) => !utterance.over);
    this.#link = "failed";
    this.#engine?.close();
    for (const utterance of waiting) this.#finish(utterance, "failed", error);
    this.#go("failed", error.message);
    this.tell("error", error);
  }

  // --- small things --------------------------------------------------------------------------------------------------------

  #go(link, detail = "") {
    this.#link = link;
    this.#showStatus(detail);
    this.#settle();
  }

  /** The state follows from the connection, what is spoken, and what was asked for. */
  #settle() {
    const waits = this.#utterances.some((utterance) => !utterance.over);
    let state = { off: "off", connecting: "connecting", failed: "failed", lost: "reconnecting", open: this.#asked }[this.#link];
    if (this.#link === "open" || this.#link === "lost") {
      if (this.#spoken) state = "speaking";
      else if (waits && this.#link === "open") state = "waiting";
    }
    if (state === this.#state) return;
    const before = this.#state;
    this.#state = state;
    this.dataset.state = state;
    this.tell("statechange", { state, before });
  }

  #showStatus(detail = "") {
    if (this.#link === "connecting") this.#view.say("connecting");
    else if (this.#link === "lost") this.#view.say("reconnecting");
    else if (this.#link === "failed") this.#view.say("failed", detail, "retry", () => this.connect().catch(() => {}));
    else if (this.#link === "open" && !this.#sound.unlocked && !this.muted && this.#told.has("locked")) {
      this.#view.say("locked", "", "unlock", () => this.unlock());
    } else this.#view.say();
  }

  #lock() {
    if (this.#told.has("locked")) return;
    this.#told.add("locked");
    this.#notice("locked", "sound waits for a gesture: call unlock() inside a click or key press");
    this.#showStatus();
  }

  #showMotion() {
    this.#view.still = !this.moving;
  }

  #showPortrait(avatar = this.avatarId) {
    if (this.isConnected && avatar) this.#view.portrait.src = this.portraitOf(avatar);
  }

  #restoreWhenCut() {
    const restore = () => {
      clearTimeout(timer);
      this.#restoring = null;
      this.#sound.restore();
    };
    const timer = setTimeout(restore, 400); // where nothing had to be cut
    this.#restoring = restore;
  }

  #notice(code, message, id) {
    this.tell("notice", { code, message, ...(id && { id }) });
  }
}

if (!customElements.get("avatar-player")) customElements.define("avatar-player", AvatarPlayer);

// A live session: what the page asks for goes out, what the service says goes onto the timeline.

import { Connection } from "./connection.js";
import { PlayerError } from "./errors.js";
import { attach, canStream } from "./media.js";
import { Outgoing } from "./outgoing.js";
import { Timeline } from "./timeline.js";
import { deferred } from "./utterance.js";
import { loadIdle } from "./wire.js";

const STATS_MS = 5_000;
const ENDS = 2;
const INIT = 4;

/**
 * Hooks: ready(detail), lost(), notice(code, message, id), failed(error), error(error), started(utterance, ms), ended(utterance, outcome, error),
 * tick(utterance, ms), placed(utterance, originS), seeking(why).
 */
export class Conversation {
  mode = "stream";
  #base;
  #video;
  #quality;
  #hooks;
  #connection;
  #outgoing;
  #timeline = null;
  #idleUrl = null;
  #opened = deferred();
  #epoch = 0; // sessions so far; numbers of utterances count within one
  #ready = null;
  #lost = false;
  #stats;

  constructor({ base, start, video, quality, hooks }) {
    this.#base = base;
    this.#video = video;
    this.#quality = quality;
    this.#hooks = hooks;
    const address = new URL("/v1/sessions", base);
    address.protocol = address.protocol.replace("http", "ws");
    this.#outgoing = new Outgoing(
      (message) => this.#connection.send(message),
      (latencyS) => this.#timeline?.aim(latencyS),
    );
    this.#connection = new Connection(address, start, {
      ready: (ready, anew) => this.#begin(ready, anew).catch((error) => this.#fail(error)),
      caughtUp: () => this.#outgoing.catchUp(),
      message: (message) => this.#take(message),
      fragment: (fragment) => this.#add(fragment),
      lost: () => this.#lose(),
      gone: (error) => this.#fail(error),
    });
    this.#stats = setInterval(() => this.#tellStats(), STATS_MS);
  }

  get opened() {
    return this.#opened.promise;
  }

  get timeline() {
    return this.#timeline;
  }

  speak(utterance) {
    this.#outgoing.add(utterance);
  }

  write(utterance, piece) {
    this.#outgoing.write(utterance, piece);
  }

  /** Takes utterances off the screen. Returns whether one of them was heard. */
  interrupt(utterances) {
    const heard = this.#timeline?.cut(utterances.map((utterance) => utterance.key)) ?? false;
    this.#outgoing.interrupt(utterances);
    for (const utterance of utterances) this.#hooks.ended(utterance, "interrupted");
    return heard;
  }

  /** Texts that the service has ready: they come sooner. */
  know(options) {
    this.#outgoing.know(options);
  }

  setState(state) {
    if (state !== "idle") this.#connection.send({ type: "state", state });
  }

  close() {
    this.#tellStats();
    clearInterval(this.#stats);
    this.#connection.close();
    this.#timeline?.destroy();
    this.#outgoing.close();
    this.#opened.promise.catch(() => {});
    this.#opened.reject(new PlayerError("closed", "the player was disconnected"));
  }

  // --- a session begins, is lost, or cannot go on ------------------------------------------------------------------------

  async #begin(ready, anew) {
    const again = this.#ready !== null;
    if (anew) {
      this.#epoch += 1;
      const unfinished = this.#outgoing.reset(ready.limits);
      this.#timeline?.cut(unfinished.map((utterance) => utterance.key));
      for (const utterance of unfinished) utterance.key = null;
    } else this.#outgoing.hold();
    this.#ready = ready;
    if (!canStream(ready.media.codecs)) throw new PlayerError("unsupported", `this browser does not play ${ready.media.codecs} from a media source`);
    if (this.#idleUrl !== ready.idle.url) {
      this.#idleUrl = ready.idle.url;
      await this.#show(await loadIdle(new URL(ready.idle.url, this.#base).href));
    }
    if (anew) this.#outgoing.catchUp();
    const detail = { session: ready.session, mode: this.mode, avatar: ready.avatar, lips: ready.lips, speech: ready.speech, resumed: ready.resumed };
    for (const notice of ready.notices) this.#hooks.notice("service", notice);
    if (again && this.#lost) {
      this.#hooks.notice(anew ? "restarted" : "resumed", anew ? "a new session began; what was not finished is spoken again" : "the connection is back");
    }
    this.#lost = false;
    this.#hooks.ready(detail);
    this.#opened.resolve(detail);
  }

  async #show(idle) {
    this.#timeline?.destroy();
    this.#timeline = new Timeline(this.#video, await attach(this.#video), idle, {
      tick: () => this.#follow(),
      shown: (run, at) => this.#shown(run, at),
      ended: (run) => this.#over(run),
      dry: (run, ms) => {
        this.#quality.add("dry_outs");
        this.#quality.add("dry_ms", ms);
        this.#hooks.notice("dry", `the picture stood for ${Math.round(ms)} ms`, run?.utterance.id);
      },
      late: (run, segments) => {
        this.#quality.add("late_segments", segments);
        this.#hooks.notice("dry", "speech did not come in time; the face waited", run.utterance.id);
      },
      seeking: (why) => this.#hooks.seeking(why),
      error: (error) => this.#fail(new PlayerError("media", `the browser could not play: ${error.message}`, { cause: error })),
    });
    const painted = new Promise((resolve) => this.#video.addEventListener("playing", resolve, { once: true }));
    await Promise.race([this.#video.play(), painted]);
  }

  #lose() {
    if (this.#lost || this.#ready === null) return;
    this.#lost = true;
    this.#quality.add("reconnects");
    this.#hooks.lost();
  }

  #fail(error) {
    const told = error instanceof PlayerError ? error : new PlayerError("media", error.message, { cause: error });
    this.#opened.promise.catch(() => {});
    this.#opened.reject(told);
    this.#hooks.failed(told);
  }

  #tellStats() {
    const message = this.#connection.open && this.#quality.message();
    if (message) this.#connection.send(message);
  }

  // --- what the service says -----------------------------------------------------------------------------------------------

  #add({ n, flags, firstFrame, nFrames, data }) {
    const utterance = this.#outgoing.byNumber(n);
    if (!utterance || utterance.over) return;
    if (flags & INIT) {
      this.#hooks.error(new PlayerError("media", "the speech was encoded otherwise than the idle loop", { id: utterance.id }));
      return;
    }
    this.#timeline.add(utterance.key, firstFrame, nFrames, data);
    if (firstFrame + nFrames === 8) this.#outgoing.arrived(utterance);
    if (flags & ENDS) this.#timeline.close(utterance.key, firstFrame + nFrames, true);
  }

  #take(message) {
    const utterance = message.id === undefined ? null : this.#outgoing.byWire(message.id);
    switch (message.type) {
      case "queued":
        if (utterance) {
          utterance.key = `${this.#epoch}:${message.n}`;
          this.#outgoing.queued(utterance, message.n);
        }
        break;
      case "accepted":
        if (utterance) this.#outgoing.accepted(utterance);
        break;
      case "started":
        if (utterance && !utterance.over) this.#started(utterance, message);
        break;
      case "words":
        if (utterance && !utterance.over) {
          utterance.addWords(message);
          this.#timeline.hush(utterance.key, message.words);
          this.#place(utterance);
        }
        break;
      case "waiting":
        if (utterance) {
          this.#outgoing.waits(utterance);
          this.#timeline.close(utterance.key, message.frames, false);
        }
        break;
      case "finished":
        if (utterance) {
          this.#outgoing.received(utterance);
          this.#timeline.close(utterance.key, message.frames, true);
        }
        break;
      case "interrupted":
        if (utterance) this.#interrupted(utterance, message);
        break;
      case "nothing_to_interrupt":
        if (utterance) this.#outgoing.received(utterance);
        break;
      case "error":
        this.#refused(utterance, message);
        break;
      default: // a newer service says more than this player knows
    }
  }

  #started(utterance, { first_frame: first, phase, grid, cached, notice, timings_ms: timings }) {
    utterance.cached = cached;
    utterance.timings ??= timings;
    this.#outgoing.started(utterance);
    this.#timeline.begin(utterance.key, first, grid, phase).utterance = utterance; // what is seen and heard of it comes after the service has finished with it
    if (notice) this.#hooks.notice("voice", notice, utterance.id);
  }

  #interrupted(utterance, { frames, by }) {
    this.#outgoing.received(utterance);
    if (utterance.over) return; // as asked
    utterance.error ??= new PlayerError("interrupted", `the service stopped it (${by})`, { id: utterance.id });
    if (frames === 0 || !this.#timeline.runs.some((run) => run.n === utterance.key)) this.#hooks.ended(utterance, "failed", utterance.error);
    else this.#timeline.close(utterance.key, frames - (frames % 8), true); // what came is heard
  }

  #refused(utterance, { code, message, id, retry_after_s: retry, closing }) {
    if (closing !== undefined) return; // told when it is closed
    const error = new PlayerError(code, message, { id: utterance?.id ?? id, retry_after_s: retry });
    if (utterance && !utterance.over) {
      utterance.error = error;
      if (utterance.n === null) {
        this.#outgoing.received(utterance);
        this.#hooks.ended(utterance, "failed", error);
      }
    }
    if (!utterance?.over || utterance.error === error) this.#hooks.error(error);
  }

  // --- what is seen and heard ----------------------------------------------------------------------------------------------

  #follow() {
    const position = this.#timeline.position();
    this.#hooks.tick(position?.run.utterance ?? null, position?.ms ?? 0);
  }

  #shown({ utterance }, at) {
    const ms = at - utterance.asked;
    this.#quality.time("first_frame_ms", ms);
    this.#place(utterance);
    this.#hooks.started(utterance, ms);
  }

  #place(utterance) {
    const run = this.#timeline.runs.find((one) => one.n === utterance.key);
    const originS = run && this.#timeline.origin(run);
    if (originS !== null && originS !== undefined) this.#hooks.placed(utterance, originS);
  }

  #over({ utterance }) {
    this.#hooks.ended(utterance, utterance.error ? "failed" : "finished", utterance.error);
  }
}

// A live session: what the page asks for goes out, what the service says goes onto the timeline.

import { Connection } from "./connection.js";
import { asPlayerError, messageOf, PlayerError } from "./errors.js";
import { loadIdle } from "./idle-loop.js";
import { attach, canStream } from "./media.js";
import { Outgoing } from "./outgoing.js";
import { SEGMENT_FRAMES } from "./slots.js";
import { Timeline } from "./timeline.js";
import { deferred } from "./utterance.js";
import { FLAG_ENDS, FLAG_INIT, FLAG_KEY } from "./wire.js";
/** @import { ReadyDetail } from "../avatar-player.d.ts" */
/** @import { IdleLoop } from "./idle-loop.js" */
/** @import { Deferred, Failure, Fragment, Interrupted, Ready, ServerMessage } from "./types.d.ts" */
/** @import { PersonState, SpokenPart, Started, Transport, TransportOptions, Waiting } from "./types.d.ts" */
/** @import { WordsMessage } from "./types.d.ts" */
/** @import { Utterance } from "./utterance.js" */

const STATS_MS = 5_000;

/** @param {SpokenPart} message @returns {SpokenPart} */
const spokenPart = ({ first_frame, phase, chars, first_word, first_cue, sound_ms }) => ({
  first_frame,
  phase,
  ...(chars && { chars }),
  first_word,
  first_cue,
  ...(sound_ms !== undefined && { sound_ms }),
});

/** Of a sound that pauses: what comes next, if another session must go on with it. @param {Waiting} message
 * @returns {SpokenPart} */
const nextPart = ({ frames, phase, sound_ms }) => ({
  first_frame: frames,
  phase,
  first_word: 0,
  first_cue: 0,
  sound_ms,
});

/** @implements {Transport} */
export class Conversation {
  mode = /** @type {const} */ ("stream");
  #base;
  #video;
  #quality;
  #hooks;
  #address;
  #start;
  #credentials;
  /** @type {Connection} */ #connection;
  /** @type {Connection | null} */ #next = null; // to where the session moves, until it answers
  /** From where it moved, and what still comes from there: by the numbers of that session.
   * @type {{ connection: Connection, begun: Map<number | null, Utterance> } | null} */
  #left = null;
  #outgoing;
  /** @type {string | null} */ #idleUrl = null;
  /** @type {Deferred<ReadyDetail>} */ #opened = deferred();
  opened = this.#opened.promise;
  /** @type {Timeline | null} */ timeline = null;
  #epoch = 0; // sessions so far; numbers of utterances count within one
  /** @type {Ready | null} */ #ready = null;
  #lost = false;
  /** @type {PersonState} */ #state = "idle";
  #statsTimer;

  /** @param {TransportOptions} options */
  constructor({ base, start, credentials, video, quality, hooks }) {
    this.#base = base;
    this.#video = video;
    this.#quality = quality;
    this.#hooks = hooks;
    this.#start = start;
    this.#credentials = credentials;
    this.#address = new URL("/v1/sessions", base);
    this.#address.protocol = this.#address.protocol.replace("http", "ws");
    this.#outgoing = new Outgoing(
      (message) => this.#connection.send(message),
      (latencyS) => this.timeline?.predictPhase(latencyS),
      () => this.timeline?.rendition ?? 0,
    );
    this.#connection = this.#connect();
    this.#statsTimer = setInterval(() => this.#sendStats(), STATS_MS);
  }

  /** @type {Transport["speak"]} */
  speak(utterance) {
    this.#outgoing.add(utterance);
  }

  /** @type {Transport["write"]} */
  write(utterance, piece) {
    this.#outgoing.write(utterance, piece);
  }

  /** @type {Transport["interrupt"]} */
  interrupt(utterances) {
    this.#leave();
    this.timeline?.cut(utterances.map((utterance) => utterance.key));
    this.#outgoing.interrupt(utterances);
    for (const utterance of utterances) this.#hooks.ended(utterance, "interrupted");
  }

  /** @type {NonNullable<Transport["markCached"]>} */
  markCached(options) {
    this.#outgoing.latency.markCached(options);
  }

  /** @type {Transport["setState"]} */
  setState(state) {
    this.#state = state;
    if (this.timeline) this.timeline.state = state;
    this.#sendState();
  }

  #sendState() {
    if (this.#state !== "idle") this.#connection.send({ type: "state", state: this.#state });
  }

  close() {
    this.#sendStats();
    clearInterval(this.#statsTimer);
    for (const connection of [this.#connection, this.#next, this.#left?.connection]) connection?.close();
    this.timeline?.destroy();
    this.#outgoing.close();
    this.#opened.reject(new PlayerError("closed", "the player was disconnected"));
  }

  // --- a session begins, is lost, or cannot go on ----------------------------------------------------------

  #connect(patient = false) {
    /** @type {Connection} */ const connection = new Connection(
      this.#address,
      this.#start,
      {
        ready: (ready, anew) => {
          const moved = connection === this.#next;
          if (moved) this.#moveTo(connection);
          else if (connection !== this.#connection) return; // nobody waits for it any more
          this.#begin(ready, anew, moved).catch((error) => this.#fail(error));
        },
        caughtUp: () => this.#catchUp(),
        message: (message) => {
          if (connection === this.#connection) this.#receive(message);
        },
        fragment: (fragment) => {
          if (connection === this.#connection) this.#addFragment(fragment);
          else if (connection === this.#left?.connection) this.#addLateFragment(fragment);
        },
        busy: () => connection === this.#connection && this.#outgoing.busy,
        quiet: (quiet) => {
          if (connection === this.#connection && !this.#lost) this.#hooks.quiet(quiet);
        },
        lost: () => this.#connectionLost(connection),
        gone: (error) => {
          if (connection === this.#connection) this.#fail(error);
          else if (connection === this.#next) {
            connection.close();
            this.#next = null; // what there is goes on until it is closed
          }
        },
      },
      patient,
      this.#credentials,
    );
    return connection;
  }

  /** @param {Connection} connection */
  #moveTo(connection) {
    // Where it moves on before anything came, the first one still gives.
    if (this.#left) this.#connection.close();
    else this.#left = { connection: this.#connection, begun: this.#outgoing.begun };
    this.#connection = connection;
    this.#next = null;
  }

  /** Done with the session from which this one moved. */
  #leave() {
    this.#left?.connection.close();
    this.#left = null;
  }

  /** @param {Ready} ready @param {boolean} anew @param {boolean} moved */
  async #begin(ready, anew, moved) {
    const again = this.#ready !== null;
    if (anew) {
      this.#epoch += 1;
      const sameFace = this.#idleUrl === ready.idle.url; // what came of another one is of no use
      for (const { key, frames } of this.#outgoing.reset(ready.limits, sameFace)) this.timeline?.takeOver(key, frames);
      if (!sameFace || !this.#left?.begun.size) this.#leave();
    } else this.#outgoing.hold();
    this.#ready = ready;
    const { codecs } = ready.media;
    if (!canStream(codecs)) {
      throw new PlayerError("unsupported", `this browser does not play ${codecs} from a media source`);
    }
    if (this.#idleUrl !== ready.idle.url) {
      const { url, first_bytes: firstBytes } = ready.idle;
      this.#idleUrl = url;
      await this.#show(await loadIdle(new URL(url, this.#base).href, this.#credentials, firstBytes));
    }
    if (anew) {
      this.#catchUp();
      this.#sendState();
    }
    const { session, avatar, lips, speech, resumed } = ready;
    const detail = { session, mode: this.mode, avatar, lips, speech, resumed };
    for (const notice of ready.notices) this.#hooks.notice("service", notice);
    if (again && this.#lost) {
      if (anew) this.#hooks.notice("restarted", "a new session began; what was not finished goes on");
      else this.#hooks.notice("resumed", "the connection is back");
    }
    if (moved) this.#hooks.notice("moved", "the session moved to another part of the service");
    this.#lost = false;
    this.#hooks.ready(detail);
    this.#opened.resolve(detail);
  }

  #catchUp() {
    for (const { key, frames } of this.#outgoing.catchUp()) this.timeline?.takeOver(key, frames);
  }

  /** @param {IdleLoop} idle */
  async #show(idle) {
    this.timeline?.destroy();
    this.timeline = new Timeline(this.#video, await attach(this.#video), idle, {
      tick: () => this.#follow(),
      shown: ({ utterance }, at) => this.#shown(utterance, at),
      ended: ({ utterance }) => this.#shownToItsEnd(utterance),
      underrun: (run, ms) => {
        this.#quality.add("dry_outs");
        this.#quality.add("dry_ms", ms);
        this.#hooks.notice("dry", `the picture stood for ${Math.round(ms)} ms`, run?.utterance.id);
      },
      holding: (run, seconds) => {
        const message = `the line is slower than the speech: ${seconds.toFixed(1)} s of it are gathered first`;
        this.#hooks.notice("slow", message, run.utterance.id);
      },
      rendition: (level, before) => {
        const how = level > before ? "is slow: pictures of fewer bytes" : "is faster: better pictures";
        this.#hooks.notice("rendition", `the line ${how} from the next speech on`);
      },
      late: (run, segments) => {
        this.#quality.add("late_segments", segments);
        this.#hooks.notice("dry", "speech did not come in time; the face waited", run.utterance.id);
      },
      seeking: (why) => this.#hooks.seeking(why),
      error: (error) => {
        const message = `the browser could not play: ${messageOf(error)}`;
        this.#fail(new PlayerError("media", message, { cause: error }));
      },
    });
    this.timeline.state = this.#state;
    const painted = new Promise((resolve) => {
      this.#video.addEventListener("playing", resolve, { once: true });
    });
    await Promise.race([this.#video.play(), painted]);
  }

  /** @param {Connection} connection */
  #connectionLost(connection) {
    if (connection === this.#left?.connection) this.#leave();
    if (connection !== this.#connection) return;
    if (this.#next) {
      connection.close();
      this.#connection = this.#next;
      this.#next = null;
    }
    if (this.#lost || this.#ready === null) return;
    this.#lost = true;
    this.#quality.add("reconnects");
    this.#hooks.lost();
  }

  /** @param {unknown} error */
  #fail(error) {
    const playerError = asPlayerError(error);
    this.#opened.reject(playerError);
    this.#hooks.failed(playerError);
  }

  #sendStats() {
    const message = this.#connection.open ? this.#quality.message() : null;
    if (message) this.#connection.send(message);
  }

  // --- what the service says -------------------------------------------------------------------------------

  /** @param {Fragment} fragment */
  #addFragment(fragment) {
    const { n, flags, firstFrame } = fragment;
    const utterance = this.#outgoing.byNumber(n);
    if (!utterance?.key || utterance.done) return;
    const { id } = utterance;
    if (flags & FLAG_INIT) {
      this.#hooks.error(new PlayerError("media", "the speech was encoded otherwise than the idle loop", { id }));
      return;
    }
    if (firstFrame < utterance.frames) return; // came from the session that is left
    this.#leave();
    this.#put(utterance, fragment);
  }

  /** Until the new session has caught up, the old one may give what comes next. @param {Fragment} fragment */
  #addLateFragment(fragment) {
    const { n, firstFrame, nFrames } = fragment;
    const utterance = this.#left?.begun.get(n);
    if (!utterance || utterance.done || firstFrame !== utterance.frames || nFrames < SEGMENT_FRAMES) return;
    this.#put(utterance, fragment);
  }

  /** @param {Utterance} utterance @param {Fragment} fragment */
  #put(utterance, { flags, firstFrame, nFrames, data }) {
    const { key } = utterance;
    if (key === null) return;
    const frames = firstFrame + nFrames;
    utterance.frames = frames - (frames % SEGMENT_FRAMES);
    this.timeline?.add(key, firstFrame, nFrames, data, Boolean(flags & FLAG_KEY));
    if (frames === SEGMENT_FRAMES) this.#outgoing.firstSegmentArrived(utterance);
    if (flags & FLAG_ENDS) {
      utterance.whole = true;
      this.timeline?.close(key, frames, true);
    }
  }

  /** @param {ServerMessage} message */
  #receive(message) {
    const utterance = message.id === undefined ? null : this.#outgoing.byWireId(message.id);
    if (message.type === "error") this.#failed(utterance, message);
    if (message.type === "moving") this.#next ??= this.#connect(true);
    if (!utterance) return;
    switch (message.type) {
      case "queued":
        utterance.key ??= `${this.#epoch}:${message.n}`;
        utterance.number = message.n;
        break;
      case "accepted":
        utterance.acceptedPieces += 1;
        break;
      case "started":
        if (!utterance.done) this.#started(utterance, message);
        break;
      case "part":
        utterance.parts.push(spokenPart(message));
        break;
      case "words":
        if (!utterance.done) this.#words(utterance, message);
        break;
      case "waiting":
        this.#leave();
        utterance.waiting = true;
        if (message.sound_ms !== undefined) utterance.parts.push(nextPart(message));
        this.timeline?.close(utterance.key, message.frames, false);
        break;
      case "finished":
        this.#leave();
        this.#outgoing.remove(utterance);
        this.timeline?.close(utterance.key, message.frames, true);
        break;
      case "interrupted":
        this.#interrupted(utterance, message);
        break;
      case "nothing_to_interrupt":
        this.#outgoing.remove(utterance);
        break;
      default: // a newer service says more than this player knows
    }
  }

  /** @param {Utterance} utterance @param {Started} message */
  #started(utterance, { first_frame: firstFrame, phase, grid, cached, speech_engine, notice, timings_ms: timings }) {
    Object.assign(utterance, { cached, voice: speech_engine });
    utterance.timings ??= timings;
    utterance.waiting = false;
    if (utterance.key !== null) this.timeline?.begin(utterance.key, utterance, { firstFrame, grid, phase });
    if (notice) this.#hooks.notice("voice", notice, utterance.id);
  }

  /** @param {Utterance} utterance @param {WordsMessage} message */
  #words(utterance, message) {
    utterance.addWords(message);
    this.timeline?.noteLeadingSilence(utterance.key, message.words);
    this.#place(utterance);
  }

  /** @param {Utterance} utterance @param {Interrupted} message */
  #interrupted(utterance, { frames, by }) {
    this.#leave();
    this.#outgoing.remove(utterance);
    if (utterance.done) return; // by this page
    utterance.error ??= new PlayerError("interrupted", `the service stopped it (${by})`, { id: utterance.id });
    this.#endAfter(utterance, frames - (frames % SEGMENT_FRAMES));
  }

  /** Nothing more comes of it: what came is heard. @param {Utterance} utterance @param {number} frames */
  #endAfter(utterance, frames) {
    if (frames === 0 || !this.timeline?.find(utterance.key)) this.#hooks.ended(utterance, "failed", utterance.error);
    else this.timeline.close(utterance.key, frames, true);
  }

  /** @param {Utterance | null} utterance @param {Failure} failure */
  #failed(utterance, { code, message, id, retry_after_s: retry, closing }) {
    if (closing !== undefined) return; // told when it is closed
    const error = new PlayerError(code, message, { id: utterance?.id ?? id, retry_after_s: retry });
    if (utterance && !utterance.done) {
      utterance.error = error;
      if (utterance.number === null) {
        this.#outgoing.remove(utterance);
        this.#endAfter(utterance, utterance.frames);
      }
    }
    if (!utterance?.done || utterance.error === error) this.#hooks.error(error);
  }

  // --- what is seen and heard ------------------------------------------------------------------------------

  #follow() {
    const position = this.timeline?.position();
    this.#hooks.tick(position?.run.utterance ?? null, position?.ms ?? 0);
  }

  /** @param {Utterance} utterance @param {number} at */
  #shown(utterance, at) {
    const ms = at - utterance.requestedAt;
    this.#quality.time("first_frame_ms", ms);
    this.#place(utterance);
    this.#hooks.started(utterance, ms);
  }

  /** @param {Utterance} utterance */
  #place(utterance) {
    const originS = this.timeline?.find(utterance.key)?.originS ?? null;
    if (originS !== null) this.#hooks.placed(utterance, originS);
  }

  /** @param {Utterance} utterance what of it was shown is at its end */
  #shownToItsEnd(utterance) {
    this.#hooks.ended(utterance, utterance.error ? "failed" : "finished", utterance.error);
  }
}

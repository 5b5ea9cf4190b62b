// One media element, one source buffer, one timeline: idle segments looped from memory, speech spliced in between
// where the loop stands.

import { asPlayerError } from "./errors.js";
import { Pace } from "./pace.js";
import { SegmentBuffer } from "./segment-buffer.js";
import { Seeks } from "./seeks.js";
import { FPS, FRAME_MS, pictureAt, pictureFrom, Run, secondsAt, SEGMENT_FRAMES, SLOT_S, slotAt } from "./slots.js";
import { tick } from "./ticker.js";
import { UnderrunWatch } from "./underrun.js";
/** @import { IdleLoop } from "./idle-loop.js" */
/** @import { Bytes, PersonState, TimelineHooks } from "./types.d.ts" */
/** @import { Utterance } from "./utterance.js" */
/** @import { Word } from "../avatar-player.d.ts" */

const TICK_MS = 10;
const FIRST_SLOTS = 3; // of idle, to begin with
const IDLE_AHEAD_S = 0.3; // in hand between utterances: speech is laid over it, and sought
// In hand in the middle of an utterance whose next segment is late: a busy page that ran dry keeps more for a while.
const LATE_AHEAD_S = { least: 0.07, most: 0.3 };
const HIDDEN_AHEAD_S = 2.5; // timers of hidden pages may come once a second
const SPEECH_AHEAD_S = 6; // what of a long utterance is appended at once
const ENOUGH_S = 0.2; // with so much a browser that stood plays on after a seek
const FUTILE_SEEKS = 2; // after which the rest of a segment is given up
const DECODED_AHEAD_S = 0.27; // the browser has decoded this much: what is nearer can only be changed by a seek
const KEEP_BEHIND_S = 8;
const EVICT_EVERY_S = 10;
const SEARCH_SLOTS = 5; // in which the wanted idle frame is looked for
const END_TOLERANCE_S = 0.005;
const INTO_RANGE_S = 0.001; // a seek to its very start may fall before it
const FREE_AHEAD_S = 2; // with so much of its speech in hand, an utterance leaves the line to the idle loop
const GESTURE_WAIT_SLOTS = 2; // that speech waits for the end of a gesture; over the rest of a longer one it fades in
const EXPECT_MS = 3_000; // speech that was asked for: until it comes or this is over, no gesture begins
const BEFORE_JUMP_S = 0.03; // the picture before a jump of the loop is kept, and fades over the one behind it

export class Timeline {
  #video;
  #hooks;
  #segments;
  #slots;
  /** @type {Run[]} */ runs = [];
  #stopTicker;
  #seeks;
  #underruns;
  #lateAheadS = LATE_AHEAD_S.least;
  #pace = new Pace();
  /** @type {Run | null} */ #held = null; // of which more is gathered before it is heard
  #evictedAt = 0;
  #frameCallback = 0;
  #closed = false;
  /** What the face is at while nothing is said. @type {PersonState} */ state = "idle";
  #expectedUntil = 0; // performance.now()

  /** @param {HTMLVideoElement} video @param {MediaSource} source @param {IdleLoop} idle @param {TimelineHooks} hooks */
  constructor(video, source, idle, hooks) {
    this.#video = video;
    this.#hooks = hooks;
    this.#segments = new SegmentBuffer(video, source, idle, (error) => {
      if (!this.#closed) hooks.error(asPlayerError(error));
    });
    this.#slots = this.#segments.slots;
    this.#seeks = new Seeks(video, this.#segments, (why) => hooks.seeking(why));
    for (let slot = 0; slot < FIRST_SLOTS; slot += 1) this.#segments.writeIdle();
    this.#underruns = new UnderrunWatch(video, {
      bufferedAhead: () => this.#segments.bufferedAhead(),
      recover: (attempt) => this.#recover(attempt),
      recovered: (ms) => {
        this.#lateAheadS = Math.min(2 * this.#lateAheadS, LATE_AHEAD_S.most);
        hooks.underrun(this.runs[0] ?? null, ms);
      },
    });
    this.#stopTicker = tick(() => this.#tick(), TICK_MS);
    this.#watchFrames();
  }

  /** The idle frame that is on the screen in `latencyS`, when speech is expected: it is to be drawn from there.
   * @param {number} latencyS */
  predictPhase(latencyS) {
    this.#expectedUntil = performance.now() + EXPECT_MS;
    const picture = Math.max(pictureFrom(this.#seeks.now + latencyS * this.#video.playbackRate), this.#afterSpeech);
    const slot = Math.floor(picture / SEGMENT_FRAMES);
    const gesture = this.#slots.gestureAt(slot);
    const wait = gesture > 0 && gesture <= GESTURE_WAIT_SLOTS;
    return this.#slots.idleFrame(wait ? (slot + gesture) * SEGMENT_FRAMES : picture);
  }

  /** A run goes on from another session: the same as if it had not changed.
   * @param {string | null} key @param {number} frame the first that comes from there */
  takeOver(key, frame) {
    this.find(key)?.restart(frame);
  }

  /** Of the pictures that are asked for next: 0 = the full one. */
  get rendition() {
    return this.#pace.rendition;
  }

  /** A run of fragments begins, or goes on after it was closed.
   * @param {string} key @param {Utterance} utterance
   * @param {{ firstFrame: number, grid: number, phase: number }} where phase: the idle frame that its first picture
   * was drawn on */
  begin(key, utterance, { firstFrame, grid, phase }) {
    let run = this.find(key);
    if (!run) {
      run = new Run(key, utterance);
      this.runs.push(run);
    } else if (firstFrame > 0 && run.closed === null && run.grid === grid) return; // taken over: it goes on as it was
    Object.assign(run, { grid, phase, entry: firstFrame, closed: null });
    run.next = Math.max(run.next, firstFrame);
  }

  /** Words of a run, before its first segment: until the first of them it is silent, where their times are known.
   * @param {string | null} key @param {Word[]} words */
  noteLeadingSilence(key, words) {
    const run = this.find(key);
    if (!run || run.next !== run.entry || words.length === 0 || words[0].estimated) return;
    run.silentS = Math.max(run.silentS, words[0].start_ms / 1000 - run.entry / FPS);
  }

  /** @param {string} key @param {number} firstFrame @param {number} nFrames @param {Bytes} bytes
   * @param {boolean} keyFrame it begins with one */
  add(key, firstFrame, nFrames, bytes, keyFrame) {
    const run = this.find(key);
    if (!run || run.cancelled) return;
    run.add(firstFrame, nFrames, bytes, keyFrame);
    this.#pace.came(run, nFrames);
    this.#pump();
  }

  /** No more of a run comes for now, or ever.
   * @param {string | null} key @param {number} frames @param {boolean} final */
  close(key, frames, final) {
    const run = this.find(key);
    if (!run) return;
    run.closed = frames;
    run.final = final;
    const before = this.rendition;
    this.#pace.over(run);
    if (this.rendition !== before) this.#hooks.rendition(this.rendition, before);
    this.#pump();
  }

  /** Takes utterances off the timeline: the picture goes to the idle frame at the next boundary, at once.
   * @param {(string | null)[]} keys */
  cut(keys) {
    for (const run of this.runs) if (keys.includes(run.key)) run.cancelled = true;
    this.runs = this.runs.filter((run) => !run.cancelled);
    const now = slotAt(this.#seeks.now);
    const heard = this.#slots.at(now)?.run?.cancelled ?? false;
    const ahead = this.#slots.find(now + 1, this.#slots.edge, ({ run }) => run?.cancelled === true);
    const from = heard ? now + 1 : ahead;
    if (from === null) return;
    this.#seeks.cancelFrom(from);
    for (const run of this.runs) {
      // What was appended behind it comes again.
      const lost = this.#slots.find(from, this.#slots.edge, (slot) => slot.run === run && !slot.again);
      if (lost !== null) run.next = this.#slots.at(lost)?.frame ?? run.next;
    }
    this.#segments.rewind(from);
    this.#segments.writeIdle();
    this.#segments.writeIdle();
    this.#segments.trim();
    if (heard) this.#seeks.seek(from, "cut", 0);
    else this.#seekIfDecoded(from);
  }

  /** What is heard at a time of the media: {run, frame, ms} with ms in the utterance, or null. */
  position(seconds = this.#video.currentTime) {
    const slot = slotAt(seconds);
    const content = this.#slots.at(slot);
    if (!content?.run || content.run.cancelled || content.again) return null;
    return { run: content.run, ms: content.frame * FRAME_MS + (seconds - secondsAt(slot)) * 1000 };
  }

  /** @param {number} seconds */
  set soundLatency(seconds) {
    this.#segments.soundLatency = seconds;
  }

  /** For tests and measurements. */
  get facts() {
    const { leadS, queue } = this.#segments;
    const { edge } = this.#slots;
    return { edge, leadS, quotaHits: queue.quotaHits, ahead: secondsAt(edge) - this.#video.currentTime };
  }

  /** @param {number} seconds */
  contentAt(seconds) {
    return this.#slots.at(slotAt(seconds));
  }

  destroy() {
    this.#closed = this.#seeks.closed = true;
    this.#stopTicker();
    this.#underruns.close();
    this.#video.cancelVideoFrameCallback?.(this.#frameCallback);
  }

  /** @param {string | null} key */
  find(key) {
    return this.runs.find((run) => run.key === key);
  }

  /** The run whose segments are appended next. */
  get #appending() {
    return this.runs.find((run) => !run.appended);
  }

  // --- appending -------------------------------------------------------------------------------------------

  /** Appends what has come, as far as it may be appended now. */
  #pump() {
    for (;;) {
      const run = this.#appending;
      const bytes = run?.segment(run.next);
      const ahead = secondsAt(this.#slots.edge) - this.#video.currentTime;
      if (!run || !bytes || (ahead > SPEECH_AHEAD_S && this.#segments.inSpeech)) return;
      if (this.#segments.inSpeech) this.#segments.writeSpeech(run, bytes); // speech follows speech
      else if (this.#mustHold(run)) return;
      else if (run.next === run.entry) this.#join(run, bytes);
      else this.#rejoin(run, bytes);
    }
  }

  /** On a line that is slower than speech it is better to wait once than at every segment. @param {Run} run */
  #mustHold(run) {
    const wantedS = run.closed === null ? this.#pace.wanted(run) : 0;
    if (run.inHandS >= wantedS) {
      this.#held = null;
      return false;
    }
    if (this.#held !== run) this.#hooks.holding(run, wantedS);
    this.#held = run;
    return true;
  }

  /** The first segment after idle. When the loop shows the idle frame before the one that it was drawn on, the clock
   * jumps to the slot in which it lies, so nobody waits for the end of a segment; the pictures go on as if nothing had
   * happened. Speech that comes too late for that is joined at once. Of the sound that lies before the pictures, what
   * is silence is not waited for.
   * @param {Run} run @param {Bytes} bytes */
  #join(run, bytes) {
    const next = Math.max(pictureAt(this.#seeks.now) + 1, this.#afterSpeech);
    const early = (run.phase - this.#slots.idleFrame(next) + this.#slots.loopFrames) % this.#slots.loopFrames;
    const inTime = early < SEARCH_SLOTS * SEGMENT_FRAMES;
    const picture = next + (inTime ? early : 0);
    const slot = Math.ceil(picture / SEGMENT_FRAMES);
    const over = this.#writeAt(run, bytes, slot);
    const soundS = Math.max(0, this.#segments.leadS - run.silentS);
    if (picture % SEGMENT_FRAMES) {
      const still = inTime && soundS === 0 && this.#slots.gestureAt(slot - 1) === 0;
      this.#seeks.schedule(slot, picture / FPS, still ? "in step" : "start", soundS);
    } else if (over) this.#seekIfDecoded(slot);
  }

  /** A segment that did not come in time, and for which idle was put in: where the loop shows the frame that it was
   * drawn on, else as soon as can be.
   * @param {Run} run @param {Bytes} bytes */
  #rejoin(run, bytes) {
    const now = this.#seeks.now;
    const earliest = Math.max(slotAt(now) + 1, this.#segments.speechEnd);
    const phase = (run.grid + run.next) % this.#slots.loopFrames;
    let slot = earliest;
    while (slot < earliest + SEARCH_SLOTS && this.#slots.phaseAt(slot) !== phase) slot += 1;
    const found = slot < earliest + SEARCH_SLOTS;
    if (!found) slot = earliest;
    if (run.end !== null && slot > run.end) this.#hooks.late(run, slot - run.end);
    const key = run.keyBefore(run.next);
    if (key < run.next) {
      this.#goOn(run, bytes, slot, key);
      return;
    }
    const over = this.#writeAt(run, bytes, slot);
    if (!found && slot === slotAt(now) + 1) this.#seeks.seek(slot, "late");
    else if (over) this.#seekIfDecoded(slot);
  }

  /** A segment without a key frame is predicted from those before it, so they are laid before it once more, behind the
   * idle that is played meanwhile, and the clock jumps over them when it comes to `slot`. One segment of idle lies
   * between, for a jump that is late.
   * @param {Run} run @param {Bytes} bytes @param {number} slot @param {number} key the frame to begin with */
  #goOn(run, bytes, slot, key) {
    while (this.#slots.edge <= slot) this.#segments.writeIdle();
    const over = this.#slots.edge > slot + 1;
    if (over) this.#segments.rewind(slot + 1);
    this.#segments.writeAgain(run, key);
    this.#segments.writeSpeech(run, bytes);
    if (over) this.#segments.trim();
    this.#seeks.schedule(this.#slots.edge - 1, secondsAt(slot), "late");
  }

  /** What was laid over a slot is shown although the browser may have read what was there before: the clock jumps to
   * where it would be anyway.
   * @param {number} slot */
  #seekIfDecoded(slot) {
    const ahead = secondsAt(slot) - this.#seeks.now;
    if (ahead < DECODED_AHEAD_S * this.#video.playbackRate) this.#seeks.schedule(slot, secondsAt(slot), "due");
  }

  /** Appends a segment at a slot, with idle before it or over what lies there. Returns whether it lies over something.
   * @param {Run} run @param {Bytes} bytes @param {number} slot */
  #writeAt(run, bytes, slot) {
    while (this.#slots.edge < slot) this.#segments.writeIdle();
    const over = this.#slots.edge > slot;
    if (over) this.#segments.rewind(slot);
    this.#segments.writeSpeech(run, bytes);
    if (over) this.#segments.trim();
    return over;
  }

  // --- the clock -------------------------------------------------------------------------------------------

  #tick() {
    if (this.#closed) return;
    this.#segments.queue.next();
    const now = this.#video.currentTime;
    this.#seeks.poll(now);
    this.#pump();
    this.#fill(now);
    this.#endRuns(now);
    this.#underruns.poll();
    const calm = this.runs.length > 0 || performance.now() < this.#expectedUntil;
    this.#segments.gestures.state = calm ? "idle" : this.state;
    this.#segments.wantIdle();
    const free = this.runs.length === 0 || this.#segments.bufferedAhead(now) > FREE_AHEAD_S;
    if (free && now > 0) this.#segments.loadIdle();
    this.#coverJump(now);
    this.#evict(now);
    if (document.hidden) this.#show(now, performance.now()); // no frames are painted, but the sound goes on
    this.#hooks.tick();
  }

  /** Idle at the edge wherever too little is in hand: between utterances, and in the middle of one that does not come.
   * @param {number} now */
  #fill(now) {
    // Speech that goes on: no idle far ahead in its place.
    const awaited = this.#slots.at(this.#slots.edge - 1)?.run?.closed === null;
    const seen = awaited ? this.#lateAheadS : IDLE_AHEAD_S;
    const hidden = awaited ? LATE_AHEAD_S.most : HIDDEN_AHEAD_S;
    const wanted = document.hidden ? hidden : seen;
    while (this.#segments.bufferedAhead(now) < wanted * this.#video.playbackRate) this.#segments.writeIdle();
  }

  /** @param {number} now */
  #coverJump(now) {
    const { jump } = this.#segments;
    if (jump === null || now < secondsAt(jump) - BEFORE_JUMP_S) return;
    this.#segments.jump = null;
    if (now < secondsAt(jump)) this.#hooks.seeking("start");
  }

  /** @param {number} now */
  #endRuns(now) {
    while (this.runs.length) {
      const [run] = this.runs;
      if (!run.appended || run.end === null || now < secondsAt(run.end) - END_TOLERANCE_S) return;
      if (!run.final) return; // more text was announced
      this.runs.shift();
      this.#hooks.ended(run);
    }
  }

  /** The first picture of the timeline behind all speech that is heard or will be; 0 when there is none. */
  get #afterSpeech() {
    const from = slotAt(this.#seeks.now);
    const spoken = this.#slots.find(from, this.#slots.edge, ({ run }) => run?.cancelled === false);
    return spoken === null ? 0 : this.#segments.speechEnd * SEGMENT_FRAMES;
  }

  /** A browser that ran dry waits for ever more media before it goes on; a seek to the start of a segment makes it go
   * on with that one alone.
   * @param {number} attempt */
  #recover(attempt) {
    const { currentTime } = this.#video;
    if (attempt > FUTILE_SEEKS) {
      // Nothing can be had from where it stands.
      const next = slotAt(currentTime) + 1;
      while (this.#slots.edge < next + 2) this.#segments.writeIdle();
      this.#seeks.seek(next, "underrun", 0);
      return;
    }
    const slot = this.#slots.edge;
    if (this.#segments.bufferedAhead(currentTime) > ENOUGH_S) {
      // What it needs came just too late, or is not where the record says it is.
      this.#segments.queue.afterPending(() => {
        const from = this.#segments.playableFrom;
        if (from !== null && !this.#closed) this.#video.currentTime = from + INTO_RANGE_S;
      });
      return;
    }
    const run = this.#appending;
    const bytes = this.#segments.inSpeech ? run?.segment(run.next) : null;
    if (run && bytes) this.#segments.writeSpeech(run, bytes);
    else this.#segments.writeIdle();
    this.#seeks.seek(slot, "underrun");
  }

  // --- what is seen, and what may go -----------------------------------------------------------------------

  #watchFrames() {
    if (!this.#video.requestVideoFrameCallback) return;
    /** @type {VideoFrameRequestCallback} */ const seen = (at, frame) => {
      if (this.#closed) return;
      this.#show(frame.mediaTime, at);
      this.#frameCallback = this.#video.requestVideoFrameCallback(seen);
    };
    this.#frameCallback = this.#video.requestVideoFrameCallback(seen);
  }

  /** @param {number} mediaTime @param {number} at */
  #show(mediaTime, at) {
    const { run, again } = this.#slots.at(slotAt(mediaTime)) ?? {};
    if (!run || again || run.shown || run.cancelled) return;
    run.shown = true;
    this.#hooks.shown(run, at);
  }

  /** @param {number} now */
  #evict(now) {
    if (now - this.#evictedAt < EVICT_EVERY_S) return;
    const keep = this.#slots.keyUpTo(slotAt(now - KEEP_BEHIND_S)) ?? 0;
    if (keep <= 0) return;
    this.#evictedAt = now;
    this.#lateAheadS = Math.max(0.9 * this.#lateAheadS, LATE_AHEAD_S.least);
    this.#segments.forget(keep, keep - 3 * Math.ceil(EVICT_EVERY_S / SLOT_S));
  }
}

// One media element, one source buffer, one timeline: idle segments looped from memory, speech spliced in between where the loop stands.

import { Dryness } from "./dryness.js";
import { Seeks } from "./seeks.js";
import { FPS, pictureAt, pictureFrom, Run, secondsAt, SEGMENT_FRAMES, slotAt, SLOT_S } from "./slots.js";
import { Tape } from "./tape.js";
import { tick } from "./ticker.js";

const TICK_MS = 10;
const IDLE_AHEAD_S = 0.3; // in hand between utterances: speech is laid over it, and sought
const AHEAD_S = [0.07, 0.3]; // in the middle of an utterance whose next segment is late: with less a busy page runs dry, and then keeps more
const HIDDEN_AHEAD_S = 2.5; // timers of hidden pages may come once a second
const SPEECH_AHEAD_S = 6; // what of a long utterance is appended at once
const ENOUGH_S = 0.2; // with so much a browser that stood plays on after a seek
const STUBBORN = 2; // seeks without effect, after which the rest of a segment is given up
const READ_AHEAD_S = 0.27; // the browser has decoded this much: what is nearer can only be changed by a seek
const BEHIND_S = 8;
const SWEEP_S = 10;
const SEARCH = 5; // slots in which the wanted idle frame is looked for

/**
 * Hooks: tick(), shown(run, at), ended(run), dry(run, ms), late(run, segments), seeking(why), error(error). why: start,
 * cut, late, dry, due; "in step": a start at which the pictures do not jump.
 */
export class Timeline {
  #video;
  #hooks;
  #tape;
  #slots;
  #runs = [];
  #stop;
  #seeks;
  #dryness;
  #aheadS = AHEAD_S[0];
  #swept = 0;
  #frame = 0;
  #closed = false;

  constructor(video, source, idle, hooks) {
    this.#video = video;
    this.#hooks = hooks;
    this.#tape = new Tape(video, source, idle, (error) => this.#closed || hooks.error(error));
    this.#slots = this.#tape.slots;
    this.#seeks = new Seeks(video, this.#tape, (why) => hooks.seeking(why));
    for (let slot = 0; slot < 3; slot += 1) this.#tape.writeIdle();
    this.#dryness = new Dryness(video, {
      inHand: () => this.#tape.inHand(),
      cure: (n) => this.#cureDryness(n),
      over: (ms) => {
        this.#aheadS = Math.min(2 * this.#aheadS, AHEAD_S[1]);
        hooks.dry(this.#runs[0] ?? null, ms);
      },
    });
    this.#stop = tick(() => this.#tick(), TICK_MS);
    this.#watchFrames();
  }

  /** The idle frame that is on the screen in `latencyS`, when speech is expected: it is to be drawn from there. */
  aim(latencyS) {
    const picture = Math.max(pictureFrom(this.#seeks.now + latencyS * this.#video.playbackRate), this.#free);
    return this.#slots.idleFrame(picture);
  }

  /** A run of fragments begins, or goes on after it was closed. phase: the idle frame that its first picture was drawn on. */
  begin(n, firstFrame, grid, phase) {
    let run = this.#runs.find((one) => one.n === n);
    if (!run) {
      run = new Run(n);
      this.#runs.push(run);
    }
    Object.assign(run, { grid, phase, entry: firstFrame, closed: null });
    run.next = Math.max(run.next, firstFrame);
    return run;
  }

  /** Words of a run, before its first segment: until the first of them it is silent, where their times are known. */
  hush(n, words) {
    const run = this.#runs.find((one) => one.n === n);
    if (run && run.next === run.entry && words.length && !words[0].estimated) run.silentS = Math.max(run.silentS, words[0].start_ms / 1000 - run.entry / FPS);
  }

  add(n, firstFrame, nFrames, bytes) {
    const run = this.#runs.find((one) => one.n === n);
    if (!run || run.given) return false;
    run.add(firstFrame, nFrames, bytes);
    this.#pump();
    return true;
  }

  /** No more of a run comes for now, or ever. */
  close(n, frames, final) {
    const run = this.#runs.find((one) => one.n === n);
    if (!run) return;
    run.closed = frames;
    run.final = final;
    this.#pump();
  }

  /** Takes utterances off the timeline: the picture goes to the idle frame at the next boundary, at once. Returns whether one of them was heard. */
  cut(numbers) {
    const given = this.#runs.filter((run) => numbers.includes(run.n));
    for (const run of given) run.given = true;
    this.#runs = this.#runs.filter((run) => !run.given);
    const now = slotAt(this.#seeks.now);
    const heard = this.#slots.at(now)?.run?.given ?? false;
    const from = heard ? now + 1 : this.#slots.find(now + 1, this.#tape.edge, ({ run }) => run?.given);
    if (from === null) return false;
    this.#seeks.drop(from);
    for (const run of this.#runs) {
      // What was appended behind it comes again.
      const lost = this.#slots.find(from, this.#tape.edge, (slot) => slot.run === run);
      if (lost !== null) run.next = this.#slots.at(lost).frame;
    }
    this.#tape.rewind(from);
    this.#tape.writeIdle();
    this.#tape.writeIdle();
    this.#tape.trim();
    if (heard) this.#seeks.go(from, "cut", 0);
    else this.#overRead(from);
    return heard;
  }

  /** What is heard at a time of the media: {run, frame, ms} with ms in the utterance, or null. */
  position(seconds = this.#video.currentTime) {
    const slot = slotAt(seconds);
    const content = this.#slots.at(slot);
    if (!content?.run || content.run.given) return null;
    return { run: content.run, ms: content.frame * 40 + (seconds - secondsAt(slot)) * 1000 };
  }

  /** Where frame 0 of a run lies on the timeline, in seconds, by what of it comes next or was appended last; null before any was. */
  origin(run) {
    const slot = run.end === null ? null : run.end - run.next / SEGMENT_FRAMES;
    return slot === null ? null : secondsAt(slot);
  }

  set soundLatency(seconds) {
    this.#tape.soundLatency = seconds;
  }

  get runs() {
    return this.#runs;
  }

  /** For tests and measurements. */
  get facts() {
    return { edge: this.#tape.edge, leadS: this.#tape.leadS, quotaHits: this.#tape.buffer.quotaHits, ahead: secondsAt(this.#tape.edge) - this.#video.currentTime };
  }

  contentAt(seconds) {
    return this.#slots.at(slotAt(seconds));
  }

  destroy() {
    this.#closed = this.#seeks.closed = true;
    this.#stop();
    this.#dryness.close();
    this.#video.cancelVideoFrameCallback?.(this.#frame);
  }

  // --- appending -------------------------------------------------------------------------------------------------------

  /** Appends what has come, as far as it may be appended now. */
  #pump() {
    for (;;) {
      const run = this.#runs.find((one) => !one.appended);
      const bytes = run?.segment(run.next);
      const ahead = secondsAt(this.#tape.edge) - this.#video.currentTime;
      if (!bytes || (ahead > SPEECH_AHEAD_S && this.#slots.at(this.#tape.edge - 1)?.run)) return;
      if (this.#tape.inSpeech) this.#tape.writeSpeech(run, bytes); // speech follows speech
      else if (run.next === run.entry) this.#enter(run, bytes);
      else this.#rejoin(run, bytes);
    }
  }

  /**
   * The first segment after idle. When the loop shows the idle frame before the one that it was drawn on, the clock jumps to the slot in which it
   * lies, so nobody waits for the end of a segment; the pictures go on as if nothing had happened. Speech that comes too late for that is joined at once.
   * Of the sound that lies before the pictures, what is silence is not waited for.
   */
  #enter(run, bytes) {
    const next = Math.max(pictureAt(this.#seeks.now) + 1, this.#free);
    const early = (run.phase - this.#slots.idleFrame(next) + this.#slots.loopFrames) % this.#slots.loopFrames;
    const inTime = early < SEARCH * SEGMENT_FRAMES;
    const picture = next + (inTime ? early : 0);
    const slot = Math.ceil(picture / SEGMENT_FRAMES);
    const over = this.#lay(run, bytes, slot);
    const soundS = Math.max(0, this.#tape.leadS - run.silentS);
    if (picture % SEGMENT_FRAMES) this.#seeks.at(slot, picture / FPS, inTime && soundS === 0 ? "in step" : "start", soundS);
    else if (over) this.#overRead(slot);
  }

  /** A segment that did not come in time, and for which idle was put in: where the loop shows the frame that it was drawn on, else as soon as can be. */
  #rejoin(run, bytes) {
    const now = this.#seeks.now;
    const earliest = Math.max(slotAt(now) + 1, this.#tape.speechEnd);
    const phase = (run.grid + run.next) % this.#slots.loopFrames;
    let slot = earliest;
    while (slot < earliest + SEARCH && this.#slots.phaseAt(slot) !== phase) slot += 1;
    const found = slot < earliest + SEARCH;
    if (!found) slot = earliest;
    if (run.end !== null && slot > run.end) this.#hooks.late(run, slot - run.end);
    const over = this.#lay(run, bytes, slot);
    if (!found && slot === slotAt(now) + 1) this.#seeks.go(slot, "late");
    else if (over) this.#overRead(slot);
  }

  /** What was laid over a slot is shown although the browser may have read what was there before: the clock jumps to where it would be anyway. */
  #overRead(slot) {
    if (secondsAt(slot) - this.#seeks.now < READ_AHEAD_S * this.#video.playbackRate) this.#seeks.at(slot, secondsAt(slot), "due");
  }

  /** Appends a segment at a slot, with idle before it or over what lies there. Returns whether it lies over something. */
  #lay(run, bytes, slot) {
    while (this.#tape.edge < slot) this.#tape.writeIdle();
    const over = this.#tape.edge > slot;
    if (over) this.#tape.rewind(slot);
    this.#tape.writeSpeech(run, bytes);
    if (over) this.#tape.trim();
    return over;
  }

  // --- the clock -------------------------------------------------------------------------------------------------------

  #tick() {
    if (this.#closed) return;
    this.#tape.buffer.poke();
    const now = this.#video.currentTime;
    this.#seeks.look(now);
    this.#pump();
    this.#feed(now);
    this.#endRuns(now);
    this.#dryness.look();
    this.#sweep(now);
    if (document.hidden) this.#show(now, performance.now()); // no frames are painted, but the sound goes on
    this.#hooks.tick();
  }

  /** Idle at the edge wherever too little is in hand: between utterances, and in the middle of one that does not come. */
  #feed(now) {
    const awaited = this.#slots.at(this.#tape.edge - 1)?.run?.closed === null; // speech that goes on: no idle far ahead in its place
    const wanted = awaited ? (document.hidden ? AHEAD_S[1] : this.#aheadS) : document.hidden ? HIDDEN_AHEAD_S : IDLE_AHEAD_S;
    while (this.#tape.inHand(now) < wanted * this.#video.playbackRate) this.#tape.writeIdle();
  }

  #endRuns(now) {
    while (this.#runs.length) {
      const [run] = this.#runs;
      if (!run.appended || run.end === null || now < secondsAt(run.end) - 0.005) return;
      if (!run.final) return; // more text was announced
      this.#runs.shift();
      this.#hooks.ended(run);
    }
  }

  /** The first picture of the timeline behind all speech that is heard or will be; 0 when there is none. */
  get #free() {
    const spoken = this.#slots.find(slotAt(this.#seeks.now), this.#tape.edge, ({ run }) => run && !run.given);
    return spoken === null ? 0 : this.#tape.speechEnd * SEGMENT_FRAMES;
  }

  // A browser that ran dry waits for ever more media before it goes on; a seek to the start of a segment makes it go on with that one alone.
  #cureDryness(n) {
    const { currentTime } = this.#video;
    if (n > STUBBORN) {
      // Nothing can be had from where it stands.
      const next = slotAt(currentTime) + 1;
      while (this.#tape.edge < next + 2) this.#tape.writeIdle();
      this.#seeks.go(next, "dry", 0);
      return;
    }
    const slot = this.#tape.edge;
    if (this.#tape.inHand(currentTime) > ENOUGH_S) {
      // What it needs came just too late, or is not where the record says it is.
      this.#tape.buffer.then(() => {
        const [from] = this.#tape.playable() ?? [null];
        if (from !== null && !this.#closed) this.#video.currentTime = from + 0.001;
      });
      return;
    }
    const run = this.#runs.find((one) => !one.appended);
    const bytes = this.#tape.inSpeech ? run?.segment(run.next) : null;
    if (bytes) this.#tape.writeSpeech(run, bytes);
    else this.#tape.writeIdle();
    this.#seeks.go(slot, "dry");
  }

  // --- what is seen, and what may go -----------------------------------------------------------------------------------

  #watchFrames() {
    if (!this.#video.requestVideoFrameCallback) return;
    const seen = (at, frame) => {
      if (this.#closed) return;
      this.#show(frame.mediaTime, at);
      this.#frame = this.#video.requestVideoFrameCallback(seen);
    };
    this.#frame = this.#video.requestVideoFrameCallback(seen);
  }

  #show(mediaTime, at) {
    const run = this.#slots.at(slotAt(mediaTime))?.run;
    if (!run || run.shown || run.given) return;
    run.shown = true;
    this.#hooks.shown(run, at);
  }

  #sweep(now) {
    const keep = slotAt(now - BEHIND_S);
    if (now - this.#swept < SWEEP_S || keep <= 0) return;
    this.#swept = now;
    this.#aheadS = Math.max(0.9 * this.#aheadS, AHEAD_S[0]);
    this.#tape.forget(keep, keep - 2 * Math.ceil(SWEEP_S / SLOT_S));
  }
}

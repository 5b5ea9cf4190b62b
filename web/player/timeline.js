// One media element, one source buffer, one timeline: idle segments looped from memory, speech spliced in between where the loop stands.

import { SerialBuffer } from "./buffer.js";
import { Dryness } from "./dryness.js";
import { Run, secondsAt, SEGMENT_FRAMES, slotAt, Slots, SLOT_S } from "./slots.js";
import { tick } from "./ticker.js";

const TICK_MS = 10;
const AHEAD_S = [0.07, 0.3]; // idle kept in hand: with less a busy page runs dry, with more speech waits longer. A page that ran dry keeps more
const TIGHT_AHEAD_S = 0.035; // while speech is expected at the very next slot
const HIDDEN_AHEAD_S = 2.5; // timers of hidden pages may come once a second
const SPEECH_AHEAD_S = 6; // what of a long utterance is appended at once
const READ_AHEAD_S = 0.27; // the browser has decoded this much: what is nearer can only be changed by a seek
const BEHIND_S = 8;
const SWEEP_S = 10;
const SEARCH = 5; // slots in which the wanted idle frame is looked for

/** Hooks: tick(), shown(run, at), ended(run), dry(ms), late(run, segments), seeking(why), error(error). */
export class Timeline {
  #video;
  #idle;
  #hooks;
  #buffer;
  #slots;
  #runs = [];
  #stop;
  #seekDue = null;
  #expected = null;
  #dryness;
  #aheadS = AHEAD_S[0];
  #swept = 0;
  #frame = 0;
  #closed = false;

  constructor(video, source, idle, hooks) {
    this.#video = video;
    this.#idle = idle;
    this.#hooks = hooks;
    this.#slots = new Slots(idle.frames);
    const room = () => {
      const { buffered } = video;
      const to = secondsAt(slotAt(video.currentTime) - 1);
      return buffered.length && buffered.start(0) < to ? [0, to] : null;
    };
    this.#buffer = new SerialBuffer(source.addSourceBuffer(`video/mp4; codecs="${idle.codecs}"`), room, (error) => this.#closed || hooks.error(error));
    this.#buffer.append(idle.init);
    for (let slot = 0; slot < 3; slot += 1) this.#appendIdle();
    this.#dryness = new Dryness(video, {
      inHand: () => secondsAt(this.#slots.edge) - video.currentTime,
      cure: () => this.#cureDryness(),
      over: (ms) => {
        this.#aheadS = Math.min(2 * this.#aheadS, AHEAD_S[1]);
        hooks.dry(ms);
      },
    });
    this.#stop = tick(() => this.#tick(), TICK_MS);
    this.#watchFrames();
  }

  /** The slot whose idle frame to name for speech that is expected `latencyS` from now: {slot, phase}. */
  aim(latencyS) {
    const after = this.#slots.find(slotAt(this.#video.currentTime), this.#slots.edge, ({ run }) => run && !run.given) === null ? 0 : this.#speechEnd();
    // Not where idle lies already: only a seek could put speech there.
    const slot = Math.max(Math.ceil((this.#video.currentTime + latencyS + TIGHT_AHEAD_S) / SLOT_S), after || this.#slots.edge);
    this.#expected = slot;
    return { slot, phase: this.#slots.phaseAt(slot) };
  }

  /** A run of fragments begins, or goes on after it was closed. */
  begin(n, firstFrame, grid) {
    let run = this.#runs.find((one) => one.n === n);
    if (!run) {
      run = new Run(n);
      this.#runs.push(run);
    }
    Object.assign(run, { grid, closed: null, rejoins: firstFrame > 0 });
    run.next = Math.max(run.next, firstFrame);
    return run;
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
    const now = slotAt(this.#video.currentTime);
    const heard = this.#slots.at(now)?.run?.given ?? false;
    const from = heard ? now + 1 : this.#slots.find(now + 1, this.#slots.edge, ({ run }) => run?.given);
    if (from === null) return false;
    const phase = heard ? this.#slots.at(now).phase + SEGMENT_FRAMES : this.#slots.phaseAt(from);
    for (const run of this.#runs) {
      // What was appended behind it comes again.
      const lost = this.#slots.find(from, this.#slots.edge, (slot) => slot.run === run);
      if (lost !== null) run.next = this.#slots.at(lost).frame;
    }
    this.#rewind(from);
    this.#appendIdle(phase);
    this.#appendIdle();
    this.#trim();
    if (heard) this.#seek(from, "cut");
    else if (secondsAt(from) - this.#video.currentTime < READ_AHEAD_S) this.#seekDue = from;
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

  get runs() {
    return this.#runs;
  }

  /** For tests and measurements. */
  get facts() {
    return { edge: this.#slots.edge, quotaHits: this.#buffer.quotaHits, ahead: secondsAt(this.#slots.edge) - this.#video.currentTime };
  }

  contentAt(seconds) {
    return this.#slots.at(slotAt(seconds));
  }

  destroy() {
    this.#closed = true;
    this.#stop();
    this.#dryness.close();
    this.#video.cancelVideoFrameCallback?.(this.#frame);
  }

  // --- appending -------------------------------------------------------------------------------------------------------

  #append(bytes, slot, frame) {
    // Decode times count from the utterance's start.
    this.#buffer.append(bytes, secondsAt(slot - frame / SEGMENT_FRAMES));
  }

  #appendIdle(phase = this.#slots.phaseAt(this.#slots.edge)) {
    const slot = this.#slots.edge;
    const number = Math.round(phase / SEGMENT_FRAMES) % this.#idle.segments.length;
    this.#append(this.#idle.segments[number], slot, 0);
    this.#slots.put(slot, null, 0, number * SEGMENT_FRAMES);
  }

  #appendSpeech(run, bytes) {
    const slot = this.#slots.edge;
    this.#append(bytes, slot, run.next);
    this.#slots.put(slot, run, run.next, run.grid + run.next);
    run.next += SEGMENT_FRAMES;
    run.end = slot + 1;
  }

  /** Appends go on at an earlier slot, over what lies there. */
  #rewind(slot) {
    this.#slots.edge = slot;
    this.#slots.prune(0);
  }

  #trim() {
    const from = secondsAt(this.#slots.edge);
    this.#buffer.then(() => {
      const { buffered } = this.#video;
      if (buffered.length && buffered.end(buffered.length - 1) > from + 0.03) this.#buffer.remove(from, Infinity);
    });
  }

  #speechEnd() {
    let slot = this.#slots.edge;
    while (slot > 0 && this.#slots.at(slot - 1) && !this.#slots.at(slot - 1).run) slot -= 1;
    return slot;
  }

  /** Appends what has come, as far as it may be appended now. */
  #pump() {
    for (;;) {
      const run = this.#runs.find((one) => !one.appended);
      const bytes = run?.segment(run.next);
      const ahead = secondsAt(this.#slots.edge) - this.#video.currentTime;
      if (!bytes || (ahead > SPEECH_AHEAD_S && this.#slots.at(this.#slots.edge - 1)?.run)) return;
      if (this.#slots.at(this.#slots.edge - 1)?.run) this.#appendSpeech(run, bytes); // speech follows speech
      else this.#join(run, bytes);
    }
  }

  /** The first segment after idle: where the loop shows the frame that it was drawn on, else as soon as can be. */
  #join(run, bytes) {
    const now = this.#video.currentTime;
    const earliest = Math.max(slotAt(now) + 1, this.#speechEnd());
    const phase = (run.grid + run.next) % this.#slots.loopFrames;
    let slot = earliest;
    while (slot < earliest + SEARCH && this.#slots.phaseAt(slot) !== phase) slot += 1;
    const found = slot < earliest + SEARCH;
    if (!found) slot = earliest;
    if (run.end !== null && !run.rejoins && slot > run.end) this.#hooks.late(run, slot - run.end);
    run.rejoins = false;
    while (this.#slots.edge < slot) this.#appendIdle();
    const over = this.#slots.edge > slot;
    if (over) this.#rewind(slot);
    this.#appendSpeech(run, bytes);
    if (over) this.#trim();
    this.#expected = null;
    if (!found && slot === slotAt(now) + 1) this.#seek(slot, "late");
    else if (over && secondsAt(slot) - now < READ_AHEAD_S) this.#seekDue = slot;
  }

  // --- the clock -------------------------------------------------------------------------------------------------------

  #tick() {
    if (this.#closed) return;
    this.#buffer.poke();
    const now = this.#video.currentTime;
    if (this.#seekDue !== null && now >= secondsAt(this.#seekDue) - 0.012) this.#seek(this.#seekDue, "due");
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
    const tight = this.#expected === this.#slots.edge && !document.hidden;
    const awaited = this.#slots.at(this.#slots.edge - 1)?.run?.closed === null; // speech that goes on: no idle far ahead in its place
    const wanted = document.hidden ? (awaited ? AHEAD_S[1] : HIDDEN_AHEAD_S) : tight ? TIGHT_AHEAD_S : this.#aheadS;
    while (secondsAt(this.#slots.edge) - now < wanted) {
      if (this.#expected !== null && this.#expected <= this.#slots.edge) this.#expected = null;
      this.#appendIdle();
    }
  }

  #endRuns(now) {
    while (this.#runs.length) {
      const [run] = this.#runs;
      if (!run.appended || run.end === null || now < secondsAt(run.end) - 0.005) return;
      if (!run.final) {
        run.rejoins = true; // more text was announced
        return;
      }
      this.#runs.shift();
      this.#hooks.ended(run);
    }
  }

  #seek(slot, why) {
    this.#seekDue = null;
    this.#hooks.seeking(why);
    this.#buffer.then(() => {
      if (!this.#closed) this.#video.currentTime = secondsAt(slot);
    });
  }

  // A browser that ran dry waits for ever more media before it goes on; a seek to the start of a segment makes it go on with that one alone.
  #cureDryness() {
    const { currentTime } = this.#video;
    const slot = this.#slots.edge;
    if (secondsAt(slot) - currentTime > 0.2) {
      this.#video.currentTime = currentTime + 0.001; // what it needs came just too late
      return;
    }
    const run = this.#runs.find((one) => !one.appended);
    const bytes = this.#slots.at(slot - 1)?.run ? run?.segment(run.next) : null;
    if (bytes) this.#appendSpeech(run, bytes);
    else this.#appendIdle();
    this.#seek(slot, "dry");
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
    this.#buffer.remove(0, secondsAt(keep));
    for (let slot = keep - 2 * Math.ceil(SWEEP_S / SLOT_S); slot < keep; slot += 1) {
      const content = this.#slots.at(slot);
      content?.run?.forget(content.frame);
    }
    this.#slots.prune(keep);
  }
}

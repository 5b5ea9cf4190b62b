// Writes segments into the slots of the timeline, and rewrites them: the source buffer and the record of what lies
// where go together.

import { Gestures } from "./gestures.js";
import { delayPictures, pictureTimescale } from "./mp4.js";
import { secondsAt, SEGMENT_FRAMES, slotAt, Slots } from "./slots.js";
import { SourceBufferQueue } from "./source-buffer-queue.js";
/** @import { Run } from "./slots.js" */
/** @import { IdleLoop } from "./idle-loop.js" */
/** @import { Bytes } from "./types.d.ts" */

const LEAD_STEP_S = 0.005; // a whole number of microseconds and of the pictures' ticks
const LEAD_STEPS_MAX = 60;

const INTO_FRAME_S = 0.01;

/** A time in the last frame before a slot: the browser takes away all up to the next key frame, and by its own rounding
 * that of the slot might lie before its beginning. @param {number} slot */
const endBefore = (slot) => secondsAt(slot) - INTO_FRAME_S;

export class SegmentBuffer {
  #video;
  #idle;
  #timescale;
  #nextLeadS = 0; // from the next silence on
  leadS = 0; // how far the sound lies before its pictures
  #anew = true; // what is written next follows nothing that the browser would know
  // The last slot at which the picture jumps, as the loop's next was not there.
  /** @type {number | null} */ jump = null;

  /** @param {HTMLVideoElement} video @param {MediaSource} source @param {IdleLoop} idle
   * @param {(error: unknown) => void} fail */
  constructor(video, source, idle, fail) {
    this.#video = video;
    this.#idle = idle;
    this.#timescale = pictureTimescale(idle.init);
    this.slots = new Slots(idle.frames);
    this.gestures = new Gestures(idle);
    /** @returns {[number, number] | null} */
    const evictable = () => {
      const { buffered } = video;
      const key = this.slots.keyUpTo(slotAt(video.currentTime) - 1);
      return buffered.length && key !== null && buffered.start(0) < endBefore(key) ? [0, endBefore(key)] : null;
    };
    this.queue = new SourceBufferQueue(source.addSourceBuffer(`video/mp4; codecs="${idle.codecs}"`), evictable, fail);
    this.queue.append(idle.init);
  }

  /** Sound that goes through an AudioContext is heard later than the pictures are seen, by the latency of the context
   * and of the loudspeaker, which the browser makes up for only without a context. So the sound is laid that much
   * before its pictures.
   * @param {number} seconds */
  set soundLatency(seconds) {
    const wanted = Math.min(Math.round(seconds / LEAD_STEP_S), LEAD_STEPS_MAX) * LEAD_STEP_S;
    if (Math.abs(wanted - this.#nextLeadS) > LEAD_STEP_S) this.#nextLeadS = wanted;
  }

  /** What lies in the slot before the edge is speech. */
  get inSpeech() {
    return Boolean(this.slots.at(this.slots.edge - 1)?.run);
  }

  /** Seconds that can be played from a time on, by the record: what was appended, or soon will be. */
  bufferedAhead(now = this.#video.currentTime) {
    return secondsAt(this.slots.edge) - this.leadS - now;
  }

  /** The first second at which the browser can play, from now on; null when there is none. */
  get playableFrom() {
    const { buffered, currentTime } = this.#video;
    for (let i = 0; i < buffered.length; i += 1) {
      if (currentTime < buffered.end(i)) return Math.max(currentTime, buffered.start(i));
    }
    return null;
  }

  /** The slot after the last speech. */
  get speechEnd() {
    let slot = this.slots.edge;
    while (slot > 0 && this.slots.at(slot - 1)?.run === null) slot -= 1;
    return slot;
  }

  /** The loop goes on without key frames, which would show as a pulse, but for one each time around: what was played
   * must go, and can up to a key frame. */
  writeIdle() {
    const slot = this.slots.edge;
    let number = this.#idleAt(slot);
    const otherLead = this.#nextLeadS !== this.leadS && slot > 0 && !this.inSpeech;
    let key = this.#anew || otherLead || number === 0 || slot === 0 || this.inSpeech;
    if (key) this.#dropGesture(slot);
    const gesture = key ? null : this.gestures.next(number);
    let bytes = key ? undefined : (gesture?.bytes ?? this.#idle.steady(number));
    key ||= !bytes;
    bytes ??= this.#idle.segment(number);
    if (!bytes) {
      [number, key] = [this.#idle.nearest(number), true];
      bytes = /** @type {Bytes} */ (this.#idle.segment(number));
      this.jump = slot;
    }
    if (otherLead) {
      // Between silences. What becomes shorter would leave a hole in the sound: it is filled first.
      if (this.#nextLeadS < this.leadS) this.#write(bytes, slot, 0);
      this.leadS = this.#nextLeadS;
      this.queue.discontinuity();
    }
    this.#write(bytes, slot, 0);
    const phase = number * SEGMENT_FRAMES;
    this.slots.put(slot, { run: null, frame: 0, phase, key, again: false, gesture: gesture?.left ?? 0 });
  }

  /** What is written next does not go on with a gesture: where one is cut short, the picture jumps.
   * @param {number} slot */
  #dropGesture(slot) {
    this.gestures.drop();
    if (this.slots.gestureAt(slot)) this.jump = slot;
  }

  /** The way into the idle loop that will be wanted behind speech whose end is known. */
  wantIdle() {
    const slot = this.slots.edge;
    if (this.slots.at(slot - 1)?.run?.appended) this.#idle.want(this.#idleAt(slot));
  }

  /** Has the idle loop load more of itself, from where it goes on. */
  loadIdle() {
    this.#idle.loadFrom(this.#idleAt(this.slots.edge), this.gestures.state);
  }

  /** The number of the idle segment that belongs into a slot. @param {number} slot */
  #idleAt(slot) {
    return Math.round(this.slots.phaseAt(slot) / SEGMENT_FRAMES) % this.#idle.length;
  }

  /** The next segment of a run. @param {Run} run @param {Bytes} bytes */
  writeSpeech(run, bytes) {
    const slot = this.slots.edge;
    this.#dropGesture(slot);
    this.#write(bytes, slot, run.next);
    const [frame, phase] = [run.next, run.grid + run.next];
    this.slots.put(slot, { run, frame, phase, key: run.isKey(frame), again: false, gesture: 0 });
    run.next += SEGMENT_FRAMES;
    run.end = slot + 1;
  }

  /** What was played of a run, from a key frame up to its next segment, which is predicted from it.
   * @param {Run} run @param {number} from */
  writeAgain(run, from) {
    for (let frame = from; frame < run.next; frame += SEGMENT_FRAMES) {
      const bytes = run.segment(frame);
      if (!bytes) throw new Error(`frame ${frame} of ${run.key} is gone`);
      const slot = this.slots.edge;
      this.#write(bytes, slot, frame);
      this.slots.put(slot, { run, frame, phase: run.grid + frame, key: frame === from, again: true, gesture: 0 });
    }
  }

  /** Writing goes on at an earlier slot, over what lies there. `trim` then takes away what is left behind the new edge.
   * @param {number} slot */
  rewind(slot) {
    this.slots.edge = slot;
    this.slots.prune(0);
    this.#anew = true;
    this.queue.discontinuity();
  }

  trim() {
    this.queue.trim(secondsAt(this.slots.edge));
  }

  /** Forgets what was played before a slot that begins with a key frame.
   * @param {number} before @param {number} since the slot before which nothing was left the last time */
  forget(before, since) {
    this.queue.remove(0, endBefore(before));
    for (let slot = since; slot < before; slot += 1) {
      const content = this.slots.at(slot);
      content?.run?.forget(content.frame);
    }
    this.slots.prune(before);
  }

  /** Decode times count from the utterance's start. @param {Bytes} bytes @param {number} slot @param {number} frame */
  #write(bytes, slot, frame) {
    this.#anew = false;
    const written = this.leadS ? delayPictures(bytes, Math.round(this.leadS * this.#timescale)) : bytes;
    this.queue.append(written, secondsAt(slot - frame / SEGMENT_FRAMES) - this.leadS);
  }
}

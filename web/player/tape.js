// Writes segments into the slots of the timeline, and rewrites them: the source buffer and the record of what lies where go together.

import { SerialBuffer } from "./buffer.js";
import { delayPictures, pictureTimescale } from "./mp4.js";
import { secondsAt, SEGMENT_FRAMES, slotAt, Slots } from "./slots.js";

const LEAD_STEP_S = 0.005; // a whole number of microseconds and of the pictures' ticks
const LEAD_MOST = 60;

export class Tape {
  #video;
  #idle;
  #timescale;
  #wantedLeadS = 0; // from the next silence on
  leadS = 0; // how far the sound lies before its pictures

  constructor(video, source, idle, fail) {
    this.#video = video;
    this.#idle = idle;
    this.#timescale = pictureTimescale(idle.init);
    this.slots = new Slots(idle.frames);
    const room = () => {
      const { buffered } = video;
      const to = secondsAt(slotAt(video.currentTime) - 1);
      return buffered.length && buffered.start(0) < to ? [0, to] : null;
    };
    this.buffer = new SerialBuffer(source.addSourceBuffer(`video/mp4; codecs="${idle.codecs}"`), room, fail);
    this.buffer.append(idle.init);
  }

  /**
   * Sound that goes through an AudioContext is heard later than the pictures are seen, by the latency of the context and of the loudspeaker, which the
   * browser makes up for only without a context. So the sound is laid that much before its pictures.
   */
  set soundLatency(seconds) {
    const wanted = Math.min(Math.round(seconds / LEAD_STEP_S), LEAD_MOST) * LEAD_STEP_S;
    if (Math.abs(wanted - this.#wantedLeadS) > LEAD_STEP_S) this.#wantedLeadS = wanted;
  }

  get edge() {
    return this.slots.edge;
  }

  /** What lies in the slot before the edge is speech. */
  get inSpeech() {
    return Boolean(this.slots.at(this.slots.edge - 1)?.run);
  }

  /** Seconds that can be played from a time on, by the record: what was appended, or soon will be. */
  inHand(now = this.#video.currentTime) {
    return secondsAt(this.slots.edge) - this.leadS - now;
  }

  /** Where the browser can play: [from, to] in seconds, of the range that has a time in it, or of the next one; null when there is neither. */
  playable(now = this.#video.currentTime) {
    const { buffered } = this.#video;
    for (let i = 0; i < buffered.length; i += 1) if (now < buffered.end(i)) return [Math.max(now, buffered.start(i)), buffered.end(i)];
    return null;
  }

  /** The slot after the last speech. */
  get speechEnd() {
    let slot = this.slots.edge;
    while (slot > 0 && this.slots.at(slot - 1) && !this.slots.at(slot - 1).run) slot -= 1;
    return slot;
  }

  writeIdle(phase = this.slots.phaseAt(this.slots.edge)) {
    const slot = this.slots.edge;
    const number = Math.round(phase / SEGMENT_FRAMES) % this.#idle.segments.length;
    const bytes = this.#idle.segments[number];
    if (this.#wantedLeadS !== this.leadS && slot > 0 && !this.inSpeech) {
      // Between silences. What becomes shorter would leave a hole in the sound: it is filled first.
      if (this.#wantedLeadS < this.leadS) this.#write(bytes, slot, 0);
      this.leadS = this.#wantedLeadS;
      this.buffer.jump();
    }
    this.#write(bytes, slot, 0);
    this.slots.put(slot, null, 0, number * SEGMENT_FRAMES);
  }

  /** The next segment of a run. */
  writeSpeech(run, bytes) {
    const slot = this.slots.edge;
    this.#write(bytes, slot, run.next);
    this.slots.put(slot, run, run.next, run.grid + run.next);
    run.next += SEGMENT_FRAMES;
    run.end = slot + 1;
  }

  /** Writing goes on at an earlier slot, over what lies there. `trim` then takes away what is left behind the new edge. */
  rewind(slot) {
    this.slots.edge = slot;
    this.slots.prune(0);
    this.buffer.jump();
  }

  trim() {
    this.buffer.trim(secondsAt(this.slots.edge));
  }

  /** Forgets what was played before a slot. */
  forget(before, since) {
    this.buffer.remove(0, secondsAt(before));
    for (let slot = since; slot < before; slot += 1) {
      const content = this.slots.at(slot);
      content?.run?.forget(content.frame);
    }
    this.slots.prune(before);
  }

  // Decode times count from the utterance's start.
  #write(bytes, slot, frame) {
    const written = this.leadS ? delayPictures(bytes, Math.round(this.leadS * this.#timescale)) : bytes;
    this.buffer.append(written, secondsAt(slot - frame / SEGMENT_FRAMES) - this.leadS);
  }
}

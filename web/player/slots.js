// What lies in each slot of the media timeline. A slot is one segment: 8 frames, 0.32 s. Slots are integers; seconds come from them only at the edge.

export const FPS = 25;
export const SEGMENT_FRAMES = 8;
export const SLOT_S = SEGMENT_FRAMES / FPS;

const SILENT_S = 0.02; // every utterance begins with as much silence, and most with more

export const secondsAt = (slot) => (slot * SEGMENT_FRAMES) / FPS;
export const slotAt = (seconds) => Math.floor(seconds / SLOT_S + 1e-4);
/** Number of the picture on the timeline that is shown at a time, and of the first that begins at it or later. */
export const pictureAt = (seconds) => Math.floor(seconds * FPS + 1e-3);
export const pictureFrom = (seconds) => Math.ceil(seconds * FPS - 1e-3);

/** A stretch of speech of one utterance, as its segments come. Ends with `closed`, and may be opened again when more text was waited for. */
export class Run {
  /** Utterance frame -> {bytes, nFrames}[] of its segment. */
  #parts = new Map();
  next = 0; // the utterance's frame that is appended next
  closed = null; // its frames, once no more are known to come
  final = false; // nothing follows `closed`
  given = false; // somebody gave it up
  shown = false;
  end = null; // the slot after its last segment so far
  grid = 0; // utterance frame f is drawn on idle frame grid + f, but for the first segment,
  entry = 0; // which begins with this frame
  phase = 0; // on this idle frame, whichever it is
  silentS = SILENT_S; // of its sound, at the entry

  constructor(n) {
    this.n = n;
  }

  add(firstFrame, nFrames, bytes) {
    const start = firstFrame - (firstFrame % SEGMENT_FRAMES);
    if (!this.#parts.has(start)) this.#parts.set(start, []);
    this.#parts.get(start).push({ bytes, nFrames });
  }

  /** The bytes of the segment at `frame` once it is whole, else null. */
  segment(frame) {
    const parts = this.#parts.get(frame);
    if (!parts || parts.reduce((sum, part) => sum + part.nFrames, 0) < SEGMENT_FRAMES) return null;
    if (parts.length === 1) return parts[0].bytes;
    const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.bytes.length, 0));
    let at = 0;
    for (const { bytes } of parts) {
      whole.set(bytes, at);
      at += bytes.length;
    }
    return whole;
  }

  /** Lets go of what was played: an interruption of another utterance cannot make it be wanted again. */
  forget(frame) {
    this.#parts.delete(frame);
  }

  get appended() {
    return this.closed !== null && this.next >= this.closed;
  }
}

/** Slot -> {run, frame, phase}: run null = idle; frame: of the utterance; phase: the idle frame under the slot's first picture. */
export class Slots {
  #slots = new Map();
  edge = 0; // the slot that is appended next

  constructor(loopFrames) {
    this.loopFrames = loopFrames;
  }

  at(slot) {
    return this.#slots.get(slot);
  }

  put(slot, run, frame, phase) {
    this.#slots.set(slot, { run, frame, phase: phase % this.loopFrames });
    this.edge = slot + 1;
  }

  /** The idle frame that is, or will be, under a slot's first picture. */
  phaseAt(slot) {
    const known = this.#slots.get(slot);
    if (known) return known.phase;
    const last = this.#slots.get(this.edge - 1);
    return last ? (last.phase + SEGMENT_FRAMES * (slot - this.edge + 1)) % this.loopFrames : 0;
  }

  /** The idle frame that is, or will be, under a picture of the timeline. */
  idleFrame(picture) {
    const slot = Math.floor(picture / SEGMENT_FRAMES);
    return (this.phaseAt(slot) + picture - slot * SEGMENT_FRAMES) % this.loopFrames;
  }

  /** The first slot of [from, to) for which `test` holds, or null. */
  find(from, to, test) {
    for (let slot = from; slot < to; slot += 1) if (this.#slots.has(slot) && test(this.#slots.get(slot))) return slot;
    return null;
  }

  /** Forgets all before a slot, and all from the edge on. */
  prune(before) {
    for (const slot of this.#slots.keys()) if (slot < before || slot >= this.edge) this.#slots.delete(slot);
  }
}

// What lies in each slot of the media timeline. A slot holds one segment. Slots are integers; seconds come from them
// only where the browser is told or asked.

/** @import { Bytes, SlotContent } from "./types.d.ts" */
/** @import { Utterance } from "./utterance.js" */

// Of every medium that the service makes: `ready.media` says the same.
export const FPS = 25;
export const SEGMENT_FRAMES = 8;
export const FRAME_MS = 1000 / FPS;
export const SLOT_S = SEGMENT_FRAMES / FPS;

const HANGUL = /\p{Script=Hangul}/gu;
const WIDE_LETTER_S = 0.15; // about what it takes to say one
const LETTER_S = 0.06;
const SILENT_S = 0.02; // every utterance begins with as much silence, and most with more

/** @param {number} slot */
export const secondsAt = (slot) => (slot * SEGMENT_FRAMES) / FPS;
/** @param {number} seconds */
export const slotAt = (seconds) => Math.floor(seconds / SLOT_S + 1e-4);
/** Number of the picture on the timeline that is shown at a time ... @param {number} seconds */
export const pictureAt = (seconds) => Math.floor(seconds * FPS + 1e-3);
/** ... and of the first that begins at it or later. @param {number} seconds */
export const pictureFrom = (seconds) => Math.ceil(seconds * FPS - 1e-3);

/** A stretch of speech of one utterance, as its segments come. Ends with `closed`, and may be opened again when more
 * text was waited for. */
export class Run {
  /** @type {Map<number, { bytes: Bytes, nFrames: number }[]>} utterance frame -> what came of its segment */
  #parts = new Map();
  /** @type {Set<number>} utterance frames of segments that begin with a key frame */ #keys = new Set();
  next = 0; // the utterance's frame that is appended next
  /** @type {number | null} */ closed = null; // its frames, once no more are known to come
  final = false; // nothing follows `closed`
  cancelled = false;
  shown = false;
  /** @type {number | null} */ end = null; // the slot after its last segment so far
  grid = 0; // utterance frame f is drawn on idle frame grid + f, but for the first segment,
  entry = 0; // which begins with this frame
  phase = 0; // on this idle frame, whichever it is
  silentS = SILENT_S; // of its sound, at the entry

  /** @param {string} key @param {Utterance} utterance */
  constructor(key, utterance) {
    this.key = key;
    this.utterance = utterance;
  }

  /** @param {number} firstFrame @param {number} nFrames @param {Bytes} bytes @param {boolean} key */
  add(firstFrame, nFrames, bytes, key) {
    const start = firstFrame - (firstFrame % SEGMENT_FRAMES);
    const parts = this.#parts.get(start) ?? [];
    parts.push({ bytes, nFrames });
    this.#parts.set(start, parts);
    if (key && firstFrame === start) this.#keys.add(start);
  }

  /** @param {number} frame of a segment's beginning */
  isKey(frame) {
    return this.#keys.has(frame);
  }

  /** The last segment that begins with a key frame and from which on everything is there up to `frame`; `frame` itself
   * where nothing is. @param {number} frame */
  keyBefore(frame) {
    let key = frame;
    while (!this.#keys.has(key) && this.segment(key - SEGMENT_FRAMES)) key -= SEGMENT_FRAMES;
    return this.#keys.has(key) ? key : frame;
  }

  /** The bytes of the segment at `frame` once it is whole, else null. @param {number} frame @returns {Bytes | null} */
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

  /** Seconds of whole segments that wait to be appended. */
  get inHandS() {
    let frame = this.next;
    while ((this.#parts.get(frame) ?? []).reduce((sum, part) => sum + part.nFrames, 0) >= SEGMENT_FRAMES) {
      frame += SEGMENT_FRAMES;
    }
    return (frame - this.next) / FPS;
  }

  /** Seconds of it that are still to be appended, as far as that is known: by its words, or by its text. */
  get secondsToCome() {
    const { text, words } = this.utterance;
    const wide = text.match(HANGUL)?.length ?? 0;
    const read = wide * WIDE_LETTER_S + (text.length - wide) * LETTER_S;
    return Math.max(read, (words.at(-1)?.end_ms ?? 0) / 1000) - this.next / FPS;
  }

  /** Of a segment that is not whole, the rest comes no more: all of it comes again. @param {number} frame */
  restart(frame) {
    this.#parts.delete(frame);
    this.#keys.delete(frame);
  }

  /** Lets go of what was played: an interruption of another utterance cannot make it be wanted again.
   * @param {number} frame */
  forget(frame) {
    this.#parts.delete(frame);
  }

  get appended() {
    return this.closed !== null && this.next >= this.closed;
  }

  /** Where frame 0 lies on the timeline, seconds, by what comes next or was appended last; null before any was. */
  get originS() {
    return this.end === null ? null : secondsAt(this.end - this.next / SEGMENT_FRAMES);
  }
}

export class Slots {
  /** @type {Map<number, SlotContent>} */ #slots = new Map();
  edge = 0; // the slot that is appended next

  /** @param {number} loopFrames */
  constructor(loopFrames) {
    this.loopFrames = loopFrames;
  }

  /** @param {number} slot */
  at(slot) {
    return this.#slots.get(slot);
  }

  /** @param {number} slot @param {SlotContent} content its phase may lie beyond the loop */
  put(slot, content) {
    this.#slots.set(slot, { ...content, phase: content.phase % this.loopFrames });
    this.edge = slot + 1;
  }

  /** The idle frame that is, or will be, under a slot's first picture. @param {number} slot */
  phaseAt(slot) {
    const known = this.#slots.get(slot);
    if (known) return known.phase;
    const last = this.#slots.get(this.edge - 1);
    return last ? (last.phase + SEGMENT_FRAMES * (slot - this.edge + 1)) % this.loopFrames : 0;
  }

  /** The idle frame that is, or will be, under a picture of the timeline. @param {number} picture */
  idleFrame(picture) {
    const slot = Math.floor(picture / SEGMENT_FRAMES);
    return (this.phaseAt(slot) + picture - slot * SEGMENT_FRAMES) % this.loopFrames;
  }

  /** How many segments of a gesture lie, or will lie, in a slot and behind it. @param {number} slot */
  gestureAt(slot) {
    const known = this.#slots.get(slot);
    if (known) return known.gesture;
    return Math.max(0, (this.#slots.get(this.edge - 1)?.gesture ?? 0) - (slot - this.edge + 1));
  }

  /** The first slot of [from, to) for which `test` holds, or null.
   * @param {number} from @param {number} to @param {(content: SlotContent) => boolean} test */
  find(from, to, test) {
    for (let slot = from; slot < to; slot += 1) {
      const content = this.#slots.get(slot);
      if (content && test(content)) return slot;
    }
    return null;
  }

  /** The last slot, `slot` or one before it, that begins with a key frame: what lies before may go. null: none is
   * known. @param {number} slot */
  keyUpTo(slot) {
    for (let at = slot; this.#slots.has(at); at -= 1) if (this.#slots.get(at)?.key) return at;
    return null;
  }

  /** Forgets all before a slot, and all from the edge on. @param {number} before */
  prune(before) {
    for (const slot of this.#slots.keys()) if (slot < before || slot >= this.edge) this.#slots.delete(slot);
  }
}

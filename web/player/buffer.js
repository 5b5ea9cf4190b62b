// One SourceBuffer, one operation at a time, in the order in which they were asked for.

import { WEBKIT } from "./media.js";

const ROUNDING_S = 0.03; // tracks end a little apart

export class SerialBuffer {
  #buffer;
  #jobs = [];
  #room;
  #fail;
  quotaHits = 0;

  /**
   * @param {SourceBuffer} buffer
   * @param {() => [number, number] | null} room a stretch of played media that may go when the browser has no room, in seconds
   * @param {(error: unknown) => void} fail
   */
  constructor(buffer, room, fail) {
    this.#buffer = buffer;
    this.#room = room;
    this.#fail = fail;
    buffer.mode = "segments";
    buffer.addEventListener("updateend", () => this.poke());
  }

  append(bytes, offsetS = 0) {
    this.#add({ bytes, offsetS });
  }

  /**
   * What is appended next does not go on where the last ended. Firefox, which looks at the pictures of a piece and then at its sound, takes the jump of the
   * sound for a fault and drops the pictures of the next piece, unless it is told. WebKit would lose the init segment.
   */
  jump() {
    if (!WEBKIT) this.then(() => this.#buffer.abort());
  }

  remove(fromS, toS) {
    if (toS > fromS) this.#add({ fromS, toS });
  }

  /** Takes away what then lies behind a time, if anything does: what is appended after this call stays. */
  trim(fromS) {
    this.#add({ trimS: fromS });
  }

  /** Calls `run` once everything before it is done. */
  then(run) {
    this.#add({ run });
  }

  get pending() {
    return this.#jobs.length + Number(this.#buffer.updating);
  }

  #add(job) {
    this.#jobs.push(job);
    this.poke();
  }

  /** Goes on where it can: after an operation, and after the playhead moved when there was no room. */
  poke() {
    while (this.#jobs.length && !this.#buffer.updating) {
      const job = this.#jobs.shift();
      try {
        if (job.run) job.run();
        else if (job.bytes) this.#append(job);
        else if (job.trimS !== undefined) this.#trim(job.trimS);
        else this.#buffer.remove(job.fromS, job.toS);
      } catch (error) {
        if (error.name !== "QuotaExceededError") return this.#fail(error);
        this.#jobs.unshift(job);
        this.quotaHits += 1;
        const room = this.#room();
        if (!room) return undefined; // nothing was played yet that could go: again at the next tick
        this.#buffer.remove(...room);
      }
    }
    return undefined;
  }

  #trim(fromS) {
    const { buffered } = this.#buffer;
    if (buffered.length && buffered.end(buffered.length - 1) > fromS + ROUNDING_S) this.#buffer.remove(fromS, Infinity);
  }

  #append({ bytes, offsetS }) {
    if (this.#buffer.timestampOffset !== offsetS) this.#buffer.timestampOffset = offsetS;
    this.#buffer.appendBuffer(bytes);
  }
}

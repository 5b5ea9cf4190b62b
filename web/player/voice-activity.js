// Whether somebody speaks into the microphone: the level of the voice's band above a noise floor that is learned.

/** @import { VoiceActivityOptions } from "../avatar-player.d.ts" */

const SAMPLE_MS = 20;
const RELEASE_MS = 600;
const LOW_HZ = 150;
const HIGH_HZ = 3_800;
const QUIETEST_DB = -75;

export class VoiceActivity {
  #onchange;
  #options;
  /** @type {MediaStream | null} */ #stream = null;
  /** @type {AudioContext | null} */ #context = null;
  /** @type {ReturnType<typeof setInterval> | undefined} */ #timer;
  #stopped = false;
  speaking = false;

  /** @param {(speaking: boolean) => void} onchange @param {VoiceActivityOptions} [options] */
  constructor(onchange, { hold_ms = 180, threshold_db = 10 } = {}) {
    this.#onchange = onchange;
    this.#options = { hold_ms, threshold_db };
  }

  /** Rejects with the browser's error when the microphone is refused. */
  async start() {
    // Without the canceller the interviewer would interrupt herself through the loudspeaker.
    const audio = { echoCancellation: true, noiseSuppression: true, autoGainControl: false };
    const stream = await navigator.mediaDevices.getUserMedia({ audio });
    if (this.#stopped) {
      release(stream); // while the person was asked
      return;
    }
    this.#stream = stream;
    const context = (this.#context = new AudioContext());
    await context.resume();
    if (this.#stopped) return;
    const analyser = context.createAnalyser();
    analyser.fftSize = 1024;
    analyser.smoothingTimeConstant = 0.4;
    context.createMediaStreamSource(stream).connect(analyser);
    const bins = new Float32Array(analyser.frequencyBinCount);
    const width = context.sampleRate / analyser.fftSize;
    const [low, high] = [Math.round(LOW_HZ / width), Math.round(HIGH_HZ / width)];
    /** @type {number | null} */ let floor = null;
    let loud = 0;
    let quiet = 0;
    this.#timer = setInterval(() => {
      analyser.getFloatFrequencyData(bins);
      let power = 0;
      for (let bin = low; bin < high; bin += 1) power += 10 ** (bins[bin] / 10);
      const level = Math.max(QUIETEST_DB, 10 * Math.log10(power / (high - low)));
      floor ??= level;
      const above = level > floor + this.#options.threshold_db;
      // Falls at once, rises slowly: pauses between words are the floor, speech is not.
      floor = level < floor ? floor + 0.3 * (level - floor) : floor + (above ? 0.001 : 0.02) * (level - floor);
      loud = above ? loud + SAMPLE_MS : Math.max(0, loud - SAMPLE_MS);
      quiet = above ? 0 : quiet + SAMPLE_MS;
      if (!this.speaking && loud >= this.#options.hold_ms) this.#change(true);
      else if (this.speaking && quiet >= RELEASE_MS) this.#change(false);
    }, SAMPLE_MS);
  }

  stop() {
    this.#stopped = true;
    clearInterval(this.#timer);
    if (this.#stream) release(this.#stream);
    this.#context?.close().catch(() => {});
    this.#stream = this.#context = null;
    if (this.speaking) this.#change(false);
  }

  /** @param {boolean} speaking */
  #change(speaking) {
    this.speaking = speaking;
    this.#onchange(speaking);
  }
}

/** @param {MediaStream} stream */
function release(stream) {
  for (const track of stream.getTracks()) track.stop();
}

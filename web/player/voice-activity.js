// Whether somebody speaks into the microphone: the level of the voice's band above a noise floor that is learned.

const LOOK_MS = 20;
const RELEASE_MS = 600;
const LOW_HZ = 150;
const HIGH_HZ = 3_800;
const QUIETEST_DB = -75;

export class VoiceActivity {
  #onchange;
  #options;
  #stream = null;
  #context = null;
  #timer = null;
  speaking = false;

  /** onchange(speaking) */
  constructor(onchange, { hold_ms = 180, threshold_db = 10 } = {}) {
    this.#onchange = onchange;
    this.#options = { hold_ms, threshold_db };
  }

  /** Rejects with the browser's error when the microphone is refused. */
  async start() {
    // Without the canceller the interviewer would interrupt herself through the loudspeaker.
    this.#stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: false } });
    this.#context = new AudioContext();
    await this.#context.resume();
    const analyser = this.#context.createAnalyser();
    analyser.fftSize = 1024;
    analyser.smoothingTimeConstant = 0.4;
    this.#context.createMediaStreamSource(this.#stream).connect(analyser);
    const bins = new Float32Array(analyser.frequencyBinCount);
    const width = this.#context.sampleRate / analyser.fftSize;
    const [low, high] = [Math.round(LOW_HZ / width), Math.round(HIGH_HZ / width)];
    let floor = null;
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
      loud = above ? loud + LOOK_MS : Math.max(0, loud - LOOK_MS);
      quiet = above ? 0 : quiet + LOOK_MS;
      if (!this.speaking && loud >= this.#options.hold_ms) this.#change(true);
      else if (this.speaking && quiet >= RELEASE_MS) this.#change(false);
    }, LOOK_MS);
  }

  stop() {
    clearInterval(this.#timer);
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#context?.close().catch(() => {});
    this.#stream = this.#context = null;
    if (this.speaking) this.#change(false);
  }

  #change(speaking) {
    this.speaking = speaking;
    this.#onchange(speaking);
  }
}

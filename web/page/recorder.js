// The candidate's answers, recorded in this browser: one recording a question, in the memory of the page and nowhere
// else.

/** @import { InterviewState } from "../interview.d.ts" */

const TYPES = ["audio/webm;codecs=opus", "audio/mp4", "audio/ogg;codecs=opus"]; // the first that the browser writes
const LEVEL_MS = 50;
const QUIETEST_DB = -60;

export class AnswerRecorder {
  /** @type {MediaStream | null} */ #stream = null;
  /** @type {AudioContext | null} */ #context = null;
  /** @type {ReturnType<typeof setInterval> | undefined} */ #timer;
  /** @type {{ index: number, recorder: MediaRecorder, ended: Promise<void> } | null} */ #running = null;
  /** @type {Map<number, Blob>} */ #answers = new Map();

  /** Opens the microphone. `onLevel` gets its level many times a second, 0 to 1. Rejects with the browser's error.
   * @param {(level: number) => void} onLevel */
  async open(onLevel) {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true } });
    this.close();
    this.#stream = stream;
    const context = (this.#context = new AudioContext());
    const analyser = context.createAnalyser();
    context.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    this.#timer = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      const power = samples.reduce((sum, value) => sum + value * value, 0) / samples.length;
      onLevel(Math.min(1, Math.max(0, 1 - (10 * Math.log10(power + 1e-12)) / QUIETEST_DB)));
    }, LEVEL_MS);
  }

  get opened() {
    return this.#stream !== null;
  }

  /** Lets the microphone go; what was recorded stays. */
  close() {
    this.#stop();
    clearInterval(this.#timer);
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#context?.close().catch(() => {});
    this.#stream = this.#context = null;
  }

  /** Records while question `index` is answered; what is said when it was heard again goes on in the same recording.
   * @param {number} index @param {InterviewState} state */
  follow(index, state) {
    if (!this.#stream) return;
    if (this.#running && this.#running.index !== index) this.#stop();
    const { recorder } = this.#running ?? {};
    if (state !== "listening") {
      if (recorder?.state === "recording") recorder.pause();
    } else if (recorder) {
      if (recorder.state === "paused") recorder.resume();
    } else this.#start(index, this.#stream);
  }

  /** Ends the recording that runs, and waits for what it has. */
  async finish() {
    const ended = this.#running?.ended;
    this.#stop();
    await ended;
  }

  /** @param {number} index of the question */
  answer(index) {
    return this.#answers.get(index) ?? null;
  }

  get any() {
    return this.#answers.size > 0;
  }

  /** @param {number} [index] without one, all of them */
  delete(index) {
    if (index === undefined) this.#answers.clear();
    else this.#answers.delete(index);
  }

  /** @param {number} index @param {MediaStream} stream */
  #start(index, stream) {
    const mimeType = TYPES.find((type) => MediaRecorder.isTypeSupported(type));
    const recorder = new MediaRecorder(stream, mimeType ? { mimeType } : {});
    /** @type {Blob[]} */ const pieces = [];
    recorder.addEventListener("dataavailable", ({ data }) => pieces.push(data));
    /** @type {Promise<void>} */ const ended = new Promise((resolve) => {
      recorder.addEventListener("stop", () => {
        const whole = new Blob(pieces, { type: recorder.mimeType.split(";")[0] });
        if (whole.size) this.#answers.set(index, whole);
        resolve();
      });
    });
    recorder.start();
    this.#running = { index, recorder, ended };
  }

  #stop() {
    if (this.#running && this.#running.recorder.state !== "inactive") this.#running.recorder.stop();
    this.#running = null;
  }
}

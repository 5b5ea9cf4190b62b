// The element's sound: allowed by a gesture, silenced at once and without a tick.

const SILENCE_S = 0.02; // a linear ramp; a step would be heard as a tick
const RETURN_S = 0.015;
const QUANTUM = 128; // samples that an AudioContext makes at once

// On iPhones sound that goes through an AudioContext obeys the ringer switch; there `muted` silences.
const graphWorks = "AudioContext" in self && !("ManagedMediaSource" in self && !("MediaSource" in self));

export class Sound {
  #video;
  #context = null;
  #gain = null;
  #wanted = true;
  #silenced = false;
  /** Called when the system takes the sound, as for a phone call. */
  onlost = () => {};

  constructor(video) {
    this.#video = video;
    video.muted = true;
  }

  /** True once sound is allowed. */
  unlocked = false;

  /** The AudioContext's graph, for whoever measures; null before `unlock` and where there is none. */
  get graph() {
    return this.#gain && { context: this.#context, output: this.#gain };
  }

  /** Seconds from the clock of the pictures until the sound is heard, as far as the browser does not make up for it. */
  get latency() {
    if (!this.#gain) return 0;
    return (this.#context.outputLatency || this.#context.baseLatency || 0) + QUANTUM / this.#context.sampleRate;
  }

  /** Inside a gesture. Resolves to whether sound is allowed. */
  async unlock() {
    if (this.#context || graphWorks) {
      this.#context ??= new AudioContext({ latencyHint: "interactive" });
      const resumed = this.#context.resume(); // only within the gesture
      await Promise.race([resumed.catch(() => {}), new Promise((resolve) => setTimeout(resolve, 500))]);
      if (this.#context.state !== "running") return this.unlocked;
      if (!this.#gain) this.#route();
    }
    this.unlocked = true;
    this.#apply();
    if (this.#video.src) {
      try {
        await this.#video.play();
      } catch (error) {
        if (error.name !== "NotAllowedError") return this.unlocked; // another load took its place
        this.unlocked = false;
        this.#apply();
        this.#video.play().catch(() => {});
      }
    }
    return this.unlocked;
  }

  // Once the element's sound goes through the context, a suspended context would hold up the pictures: so not before it runs.
  #route() {
    this.#gain = this.#context.createGain();
    this.#context.createMediaElementSource(this.#video).connect(this.#gain).connect(this.#context.destination);
    this.#context.addEventListener("statechange", () => {
      if (this.#context?.state === "running" || !this.unlocked) return;
      this.unlocked = false;
      this.onlost();
    });
  }

  set wanted(wanted) {
    this.#wanted = wanted;
    this.#apply();
  }

  /** Silent within 20 ms. Returns the milliseconds that it takes. */
  silence() {
    this.#silenced = true;
    if (!this.#gain) {
      this.#apply();
      return 0;
    }
    this.#ramp(0, SILENCE_S);
    return SILENCE_S * 1000;
  }

  restore() {
    if (!this.#silenced) return;
    this.#silenced = false;
    if (this.#gain) this.#ramp(1, RETURN_S);
    else this.#apply();
  }

  #ramp(to, seconds) {
    const { gain } = this.#gain;
    const now = this.#context.currentTime;
    gain.cancelScheduledValues(now);
    gain.setValueAtTime(gain.value, now);
    gain.linearRampToValueAtTime(to, now + seconds);
  }

  #apply() {
    this.#video.muted = !this.unlocked || !this.#wanted || (this.#silenced && !this.#gain);
  }
}

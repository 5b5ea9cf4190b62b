// The element's sound: allowed by a gesture, silenced at once and without a tick.

import { WEBKIT } from "./media.js";

const SILENCE_S = 0.02; // a linear ramp; a step would be heard as a tick
const RETURN_S = 0.015;
const QUANTUM = 128; // samples that an AudioContext makes at once
const RESUME_MS = 500; // a context that is not allowed stays silent about it

// Safari plays a media source past the AudioContext that its element is routed to, and on iPhones such a context
// obeys the ringer switch: there the volume silences, where it can be set, else `muted`, after which some players of
// media need a second to find their way back.
const graphWorks = "AudioContext" in globalThis && !WEBKIT;

function volumeWorks() {
  const video = document.createElement("video");
  video.volume = 0;
  return video.volume === 0;
}

export class Sound {
  #video;
  /** @type {AudioContext | null} */ #context = null;
  /** @type {GainNode | null} */ #gain = null;
  #enabled = true;
  #silenced = false;
  #unlocking = false;
  #volumeWorks = volumeWorks();

  /** True once sound is allowed. */
  unlocked = false;
  /** Called when the system takes the sound, as for a phone call. */
  onlost = () => {};
  /** Called when the sound comes by itself: after that call, or from a device that was slow to begin. */
  onfound = () => {};

  /** @param {HTMLVideoElement} video */
  constructor(video) {
    this.#video = video;
    video.muted = true;
  }

  /** The AudioContext's graph, for whoever measures; null before `unlock` and where there is none. */
  get graph() {
    return this.#gain && { context: this.#context, output: this.#gain };
  }

  /** Seconds from the clock of the pictures until the sound is heard, as far as the browser does not make up for it. */
  get latency() {
    if (!this.#context || !this.#gain) return 0;
    return (this.#context.outputLatency || this.#context.baseLatency || 0) + QUANTUM / this.#context.sampleRate;
  }

  /** Inside a gesture. Resolves to whether sound is allowed. */
  async unlock() {
    if (this.#context || graphWorks) {
      this.#context ??= this.#createContext();
      const resumed = this.#context.resume(); // only within the gesture
      this.#unlocking = true;
      const patience = new Promise((resolve) => {
        setTimeout(resolve, RESUME_MS);
      });
      await Promise.race([resumed.catch(() => {}), patience]);
      this.#unlocking = false;
      if (this.#context.state !== "running") return this.unlocked;
    }
    return this.#admit();
  }

  async #admit() {
    // Once the element's sound goes through the context, a suspended context would hold up the pictures: so not
    // before it runs.
    if (this.#context && !this.#gain) this.#gain = this.#route(this.#context);
    this.unlocked = true;
    this.#apply();
    if (this.#video.src) {
      try {
        await this.#video.play();
      } catch (error) {
        const refused = error instanceof DOMException && error.name === "NotAllowedError";
        if (!refused) return this.unlocked; // another load took its place
        this.unlocked = false;
        this.#apply();
        this.#video.play().catch(() => {});
      }
    }
    return this.unlocked;
  }

  #createContext() {
    const context = new AudioContext({ latencyHint: "interactive" });
    context.addEventListener("statechange", async () => {
      if (context.state !== "running" && this.unlocked) {
        this.unlocked = false;
        this.onlost();
      } else if (context.state === "running" && !this.unlocked && !this.#unlocking && (await this.#admit())) {
        this.onfound();
      }
    });
    return context;
  }

  /** @param {AudioContext} context */
  #route(context) {
    const gain = context.createGain();
    context.createMediaElementSource(this.#video).connect(gain).connect(context.destination);
    return gain;
  }

  /** @param {boolean} enabled */
  set enabled(enabled) {
    this.#enabled = enabled;
    this.#apply();
  }

  /** Silent within 20 ms. Returns the milliseconds that it takes. */
  silence() {
    this.#silenced = true;
    if (!this.#gain) {
      this.#apply();
      return 0;
    }
    ramp(this.#gain, 0, SILENCE_S);
    return SILENCE_S * 1000;
  }

  restore() {
    if (!this.#silenced) return;
    this.#silenced = false;
    if (this.#gain) ramp(this.#gain, 1, RETURN_S);
    else this.#apply();
  }

  #apply() {
    const silenced = this.#silenced && !this.#gain;
    if (this.#volumeWorks) this.#video.volume = silenced ? 0 : 1;
    this.#video.muted = !this.unlocked || !this.#enabled || (silenced && !this.#volumeWorks);
  }
}

/** @param {GainNode} node @param {number} to @param {number} seconds */
function ramp({ gain, context }, to, seconds) {
  const now = context.currentTime;
  gain.cancelScheduledValues(now);
  gain.setValueAtTime(gain.value, now);
  gain.linearRampToValueAtTime(to, now + seconds);
}

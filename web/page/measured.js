// What can be measured of a recorded answer: how long it is, and how it pauses. No judgement.

const STEP_S = 0.02;
const BELOW_DB = 25; // under the loud parts of the voice it is silent
const LOUD = 0.95; // of all steps, those are below the loud parts
const PAUSE_S = 0.7; // what is shorter is how people speak

/** @typedef {{ seconds: number, pauses: number, longest: number }} Measured seconds, of the longest pause, too */

/** Rejects with the browser's error when it cannot be decoded. @param {Blob} answer @returns {Promise<Measured>} */
export async function measure(answer) {
  const context = new OfflineAudioContext(1, 1, 16_000);
  const sound = await context.decodeAudioData(await answer.arrayBuffer());
  return pausesOf(sound.getChannelData(0), sound.sampleRate);
}

/** Pauses between two stretches of speech; silence before and after it is none.
 * @param {Float32Array} samples @param {number} rate @returns {Measured} */
export function pausesOf(samples, rate) {
  const step = Math.round(STEP_S * rate);
  /** @type {number[]} */ const levels = [];
  for (let at = 0; at + step <= samples.length; at += step) {
    let power = 0;
    for (let i = at; i < at + step; i += 1) power += samples[i] * samples[i];
    levels.push(10 * Math.log10(power / step + 1e-12));
  }
  const loud = [...levels].sort((a, b) => a - b)[Math.floor(LOUD * (levels.length - 1))] ?? 0;
  /** @type {number[]} */ const pauses = [];
  let spokeAt = -1; // the last step with speech
  for (const [at, level] of levels.entries()) {
    if (level < loud - BELOW_DB) continue;
    const silent = (at - spokeAt - 1) * STEP_S;
    if (spokeAt >= 0 && silent >= PAUSE_S) pauses.push(silent);
    spokeAt = at;
  }
  return { seconds: samples.length / rate, pauses: pauses.length, longest: Math.max(0, ...pauses) };
}

// Which voice speaks, by name; and, once, that the Korean one which is built in is synthetic.

import { el } from "./dom.js";
import { recall, remember } from "./settings.js";
import { t } from "./texts.js";
/** @import { AvatarPlayer } from "../avatar-player.d.ts" */

/** @type {Record<string, string>} */
const NAMES = { hibari: "Hibari", piper: "Joe (Piper)", espeak: "espeak-ng", supertonic: "Supertonic", openai: "OpenAI" };
const SYNTHETIC = "espeak"; // the one that is built in where no other is
const HANGUL = /\p{Script=Hangul}/u;

/** @param {string} engine as the service calls it */
export const voiceName = (engine) => NAMES[engine] ?? engine;

export class VoiceLine {
  #engine = "";
  #hint = false; // in this visit

  /** @param {AvatarPlayer} player */
  constructor(player) {
    player.addEventListener("started", ({ detail }) => {
      this.#engine = detail.voice;
      const text = player.transcript.find(({ id }) => id === detail.id)?.text ?? "";
      if (detail.voice === SYNTHETIC && HANGUL.test(text) && !recall("toldOfVoice", false)) {
        remember("toldOfVoice", true);
        this.#hint = true;
      }
      this.render();
    });
  }

  render() {
    el("spoken-by").hidden = this.#engine === "";
    el("spoken-by").textContent = t("spokenBy", { name: voiceName(this.#engine) });
    el("voice-hint").hidden = !this.#hint;
  }
}

// Captions: a real text track of the video, and the box in which they are shown, also over the still portrait.

import { make, part } from "./dom.js";
/** @import { Utterance } from "./utterance.js" */

const UNSPACED = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]/u;

/** The lines as one: they were made for no width in particular, and are broken anew for the one that is there.
 * @param {string[]} lines */
const joined = (lines) =>
  lines.reduce((text, line) => {
    const unspaced = UNSPACED.test(text.slice(-1)) && UNSPACED.test(line.slice(0, 1));
    return text + (unspaced ? "" : " ") + line;
  });

export class Captions {
  #box;
  #onchange;
  /** @type {Map<Utterance, VTTCue[]>} */ #placed = new Map(); // its cues on the track
  /** @type {string[]} */ #shown = []; // the lines in the box

  /** @param {HTMLVideoElement} video @param {HTMLElement} box
   * @param {(utterance: Utterance | null, lines: string[]) => void} onchange (null, []) between captions */
  constructor(video, box, onchange) {
    this.#box = box;
    this.#onchange = onchange;
    this.track = video.addTextTrack("captions", "Captions", "");
    // The track is "hidden": its cues are live, and drawn by the box, which the portrait does not cover. On an
    // iPhone's full screen only the video is there, and the browser draws them.
    this.track.mode = "hidden";
    video.addEventListener("webkitbeginfullscreen", () => (this.track.mode = box.hidden ? "hidden" : "showing"));
    video.addEventListener("webkitendfullscreen", () => (this.track.mode = "hidden"));
  }

  /** @param {boolean} visible */
  set visible(visible) {
    this.#box.hidden = !visible;
  }

  /** Puts an utterance's cues onto the track.
   * @param {Utterance} utterance @param {number} originS where its frame 0 lies, in seconds of the media */
  place(utterance, originS) {
    this.clear(utterance);
    const cues = utterance.cues.map(
      ({ start_ms, end_ms, lines }) => new VTTCue(originS + start_ms / 1000, originS + end_ms / 1000, lines.join("\n")),
    );
    for (const cue of cues) this.track.addCue(cue);
    this.#placed.set(utterance, cues);
  }

  /** @param {Utterance} utterance */
  clear(utterance) {
    for (const cue of this.#placed.get(utterance) ?? []) if (cue.track) this.track.removeCue(cue);
    this.#placed.delete(utterance);
  }

  /** Shows what is said at a time of an utterance; without one, nothing. @param {Utterance | null} [utterance] */
  show(utterance = null, ms = 0) {
    const cue = utterance?.cues.findLast(({ start_ms, end_ms }) => start_ms <= ms && ms < end_ms) ?? null;
    const lines = (cue?.lines ?? []).filter((line) => line.trim()); // an empty one would be an empty plate
    if (this.#shown.join("\n") === lines.join("\n")) return;
    this.#shown = lines;
    const caption = lines.length ? [part("caption", make("span", { dir: "auto" }, joined(lines)))] : [];
    this.#box.replaceChildren(...caption);
    this.#onchange(lines.length ? utterance : null, lines);
  }
}

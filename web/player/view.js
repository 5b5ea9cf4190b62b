// What is in the element's shadow: the video, the still portrait, captions, the label, and what to do when something
// is amiss.

import { make, part } from "./dom.js";
import { textsFor } from "./texts.js";
/** @import { TextKey } from "./texts.js" */

const FADE_MS = 70; // the mouth closes, instead of snapping shut

const STYLE = `
:host {
  display: block; position: relative; aspect-ratio: 1; overflow: hidden; container-type: inline-size;
  border-radius: var(--player-radius, 0); background: var(--player-background, #20242c);
}
:host([hidden]) { display: none; }
video, canvas, .portrait { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: cover; }
video { opacity: 0; }
.playing video { opacity: 1; }
.playing.still video { opacity: 0; }
.playing:not(.still) .portrait { visibility: hidden; }
.portrait:not([src]) { visibility: hidden; }
canvas { pointer-events: none; visibility: hidden; }
.lower {
  position: absolute; inset: auto 0 0 0; padding: 0 4% 4%; pointer-events: none;
  display: grid; gap: 0.5em; justify-items: center;
}
.captions { max-width: 100%; text-align: center; font-size: var(--caption-size, 1.05em); line-height: 1.4; }
.captions span {
  display: block; width: fit-content; max-width: 100%; margin: 0 auto; padding: 0.08em 0.5em;
  text-wrap: balance; word-break: keep-all; overflow-wrap: anywhere;
  color: var(--caption-color, #fff); background: var(--caption-background, rgb(0 0 0 / 78%));
}
[hidden] { display: none !important; }
.label {
  position: absolute; inset-block-start: 3%; inset-inline-start: 3%; margin: 0; padding: 0.2em 0.6em;
  border-radius: 1em; font-size: 0.8em; color: #fff; background: rgb(0 0 0 / 70%);
}
.status {
  display: flex; flex-wrap: wrap; gap: 0.6em; align-items: center; justify-content: center; pointer-events: auto;
  margin: 0; padding: 0.5em 0.8em; border-radius: 0.6em; font-size: 0.9em; color: #fff; background: rgb(0 0 0 / 82%);
}
.status button {
  font: inherit; font-weight: 600; min-height: 2.6em; padding: 0.3em 1em; cursor: pointer;
  border: 1px solid #fff; border-radius: 0.5em; color: #111; background: #fff;
}
.status button:focus-visible { outline: 3px solid #7db4ff; outline-offset: 2px; }
`;

export class View {
  #host;
  #root;
  #canvas;
  #status;
  #statusText;
  #button;
  /** @type {(() => void) | null} */ #act = null; // what the button does

  /** @param {HTMLElement} host */
  constructor(host) {
    this.#host = host;
    const shadow = host.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    shadow.adoptedStyleSheets = [sheet];
    this.video = part("picture", make("video", { playsInline: true, tabIndex: -1, "aria-hidden": "true" }));
    this.video.setAttribute("playsinline", "");
    this.video.disablePictureInPicture = true;
    this.portrait = part("portrait", make("img", { className: "portrait", alt: "", fetchPriority: "high" }));
    this.#canvas = make("canvas", { "aria-hidden": "true" });
    this.captions = part("captions", make("div", { className: "captions" }));
    this.label = part("label", make("p", { className: "label", hidden: true }));
    this.#statusText = make("span", {});
    this.#button = make("button", { type: "button", hidden: true });
    this.#button.addEventListener("click", () => this.#act?.());
    this.#status = make("div", { className: "status", hidden: true }, this.#statusText, this.#button);
    const live = make("div", {}, part("status", this.#status));
    live.setAttribute("role", "status");
    const lower = make("div", { className: "lower" }, this.captions, live);
    this.#root = make("div", {}, this.portrait, this.video, this.#canvas, this.label, lower);
    shadow.append(this.#root);
  }

  /** @param {boolean} playing */
  set playing(playing) {
    this.#root.classList.toggle("playing", playing);
  }

  /** @param {boolean} still */
  set still(still) {
    this.#root.classList.toggle("still", still);
  }

  /** @param {string} label "" = that it is generated, in the language of the page; "none" = no badge */
  name(label) {
    const texts = textsFor(this.#host);
    this.label.hidden = label === "none";
    this.label.textContent = label || texts.generated;
    // The portrait stands for the picture, moving or not; a video without controls tells nothing that its captions do
    // not.
    this.#root.setAttribute("role", "group");
    const shown = label === "" || label === "none" ? "" : label;
    this.#root.setAttribute("aria-label", shown || `${texts.label}, ${texts.generated}`);
  }

  /** A line, and a button where there is something to do. No key: nothing is amiss.
   * @param {TextKey | null} [key] @param {string} [detail] @param {TextKey | null} [action]
   * @param {(() => void) | null} [act] */
  showStatus(key = null, detail = "", action = null, act = null) {
    const texts = textsFor(this.#host);
    this.#status.hidden = key === null;
    this.#statusText.textContent = key === null ? "" : [texts[key], detail].filter(Boolean).join(" ");
    this.#button.hidden = action === null;
    this.#button.textContent = action === null ? "" : texts[action];
    this.#act = act;
  }

  /** Keeps the picture that is on the screen for a while, or until `uncover`, and lets it fade over what comes: called
   * just before a seek. */
  cover(ms = 0) {
    const { videoWidth: width, videoHeight: height } = this.video;
    const shown = this.#root.classList.contains("playing") && !this.#root.classList.contains("still");
    if (!width || !shown || document.hidden) return;
    Object.assign(this.#canvas, { width, height });
    this.#canvas.getContext("2d", { alpha: false })?.drawImage(this.video, 0, 0);
    for (const running of this.#canvas.getAnimations()) running.cancel();
    const frames = [1, 0].map((opacity) => ({ visibility: "visible", opacity }));
    this.#canvas.animate(frames, { delay: ms, duration: FADE_MS, easing: "ease-out", fill: "backwards" });
  }

  uncover() {
    for (const running of this.#canvas.getAnimations()) {
      running.currentTime = Math.max(Number(running.currentTime), running.effect?.getTiming().delay ?? 0);
    }
  }

  /** What covers the picture, and how much, of 1: for measurements. */
  get overlay() {
    const fading = this.#canvas.getAnimations().length > 0;
    return { canvas: this.#canvas, opacity: fading ? Number(getComputedStyle(this.#canvas).opacity) : 0 };
  }
}

// Around the picture: captions and their size, motion, and notices that always name a way back.

import { announce, el, make } from "./dom.js";
import { recall, remember } from "./settings.js";
import { t } from "./texts.js";
/** @import { Notice, PlayerError } from "./types.d.ts" */
/** @import { AvatarPlayer, NoticeDetail } from "../avatar-player.d.ts" */

const SIZES = /** @type {const} */ (["small", "medium", "large"]);
const MEDIUM = /** @type {typeof SIZES[number]} */ ("medium");
const EXPIRED = 4003; // close code: nothing was said for too long
const BUSY = 4013; // close code: as many sessions as the service takes

/** One notice at a time is shown, the newest; each belongs to a cause, and goes when its cause does. */
class Notices {
  /** @type {Map<string, Notice>} */ #shown = new Map(); // by their causes

  /** @param {string} cause @param {Notice} notice */
  show(cause, notice) {
    this.#shown.delete(cause);
    this.#shown.set(cause, notice);
    this.render();
  }

  /** @param {string[]} causes */
  clear(...causes) {
    let any = false;
    for (const cause of causes) any = this.#shown.delete(cause) || any;
    if (any) this.render();
    return any;
  }

  render() {
    const notice = [...this.#shown.values()].at(-1);
    el("notice").hidden = !notice;
    if (!notice) return;
    const text = t(notice.key, notice.values);
    if (el("notice-text").textContent !== text) el("notice-text").textContent = text;
    const button = el("notice-act");
    button.hidden = !notice.act;
    button.textContent = notice.label ? t(notice.label) : "";
    button.onclick = notice.act ?? null;
  }
}

export const notices = new Notices();

/** @param {PlayerError} error */
function wordsFor({ code, close }) {
  if (code === "busy" || close === BUSY) return "e_busy";
  if (close === EXPIRED) return "e_idle";
  return code === "unreachable" ? "e_network" : "e_lost";
}

export class Stage {
  #player;

  /** @param {AvatarPlayer} player */
  constructor(player) {
    this.#player = player;
    player.captions = recall("captions", /** @type {"on" | "off"} */ ("on"));
    player.motion = "auto";
    el("captions").addEventListener("click", () => {
      player.captions = player.captions === "on" ? "off" : "on";
      remember("captions", player.captions);
      this.render();
    });
    el("motion").addEventListener("click", () => {
      player.motion = player.moving ? "off" : "on";
      this.render();
    });
    this.#size(recall("captionSize", MEDIUM));
    matchMedia("(prefers-reduced-motion: reduce)").addEventListener("change", () => this.render());
    player.addEventListener("statechange", () => this.#follow());
    player.addEventListener("ready", () => {
      this.render();
      notices.clear("lost");
      this.#back();
    });
    player.addEventListener("ended", () => notices.clear("slow"));
    player.addEventListener("notice", ({ detail }) => this.#notice(detail));
    player.addEventListener("error", ({ detail }) => this.#error(detail));
  }

  render() {
    const player = this.#player;
    player.label = t("generated");
    el("captions").setAttribute("aria-pressed", String(player.captions === "on"));
    el("sizes").hidden = player.captions !== "on";
    const moving = player.moving;
    document.body.classList.toggle("still", !moving);
    el("motion-text").textContent = t(moving ? "pauseMotion" : "showMotion");
    el("motion-icon").setAttribute("href", `page/icons.svg#${moving ? "pause" : "play"}`);
    el("still-hint").hidden = moving || player.motion !== "auto";
    this.#sizes();
    notices.render();
  }

  /** Connects, and says what is wrong when that fails. Resolves to whether the interviewer is there. */
  async connect() {
    try {
      await this.#player.connect();
      return true;
    } catch (error) {
      this.#error(/** @type {PlayerError} */ (error));
      return false;
    }
  }

  /** Call it inside a click or key press: browsers allow sound only then. */
  async unlock() {
    if (await this.#player.unlock()) notices.clear("sound");
  }

  #sizes() {
    const chosen = recall("captionSize", MEDIUM);
    const choices = SIZES.map((size) => {
      const name = t(`size_${size}`);
      const checked = size === chosen;
      const input = make("input", { type: "radio", name: "caption-size", value: size, checked, "aria-label": name });
      input.addEventListener("change", () => this.#size(size));
      const letter = make("span", { "aria-hidden": "true" }, "A");
      return make("label", { className: `size-${size}`, title: name }, input, letter);
    });
    el("sizes").replaceChildren(...choices);
  }

  /** @param {typeof SIZES[number]} size */
  #size(size) {
    remember("captionSize", size);
    this.#player.dataset.captionSize = size;
  }

  #follow() {
    const { state } = this.#player;
    el("frame").dataset.state = state;
    if (state === "failed" || state === "off") notices.clear("connection");
  }

  #back() {
    if (notices.clear("connection")) announce(t("e_back"));
  }

  /** @param {NoticeDetail} notice */
  #notice({ code, message }) {
    if (code === "locked" || code === "sound_paused") {
      notices.show("sound", { key: "e_locked", label: "soundOn", act: () => this.unlock() });
    } else if (code === "sound_on") notices.clear("sound");
    else if (code === "slow") notices.show("slow", { key: "e_slow" });
    else if (code === "quiet") notices.show("connection", { key: "e_quiet" });
    else if (code === "reconnecting") notices.show("connection", { key: "e_reconnecting" });
    else if (code === "heard") this.#back();
    else if (code === "vad") announce(message);
    else if (code === "still") this.render();
  }

  /** @param {PlayerError} error */
  #error(error) {
    if (error.id) return; // an utterance's: whoever asked for it tells
    const { message } = error;
    notices.show("lost", { key: wordsFor(error), values: { message }, label: "reconnect", act: () => this.connect() });
  }
}

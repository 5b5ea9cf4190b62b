// For developers: what runs and why, where the time of the last utterance went, and a box to say any text.

import { el, facts, make } from "./dom.js";
import { language, t } from "./texts.js";
/** @import { Health, Voice } from "./types.d.ts" */
/** @import { AvatarPlayer, ReadyDetail, StartedDetail } from "../avatar-player.d.ts" */

const DEFAULT_SPEED = 1.1;
const LANGUAGES_SHOWN = 3; // of a voice

/** @param {number} value */
const number = (value) =>
  value < 10 && !Number.isInteger(value) ? value.toFixed(1) : Math.round(value).toLocaleString("en");

export class Details {
  #player;
  #unlock;
  /** @type {Health | null} */ #health = null;
  /** @type {Voice[]} */ #voices = [];
  /** @type {ReadyDetail | null} */ #ready = null;
  /** @type {StartedDetail | null} */ #started = null;

  /** @param {AvatarPlayer} player @param {() => Promise<void>} unlock allows sound, inside a gesture */
  constructor(player, unlock) {
    this.#player = player;
    this.#unlock = unlock;
    player.addEventListener("ready", ({ detail }) => {
      this.#ready = detail;
      this.render();
    });
    player.addEventListener("started", ({ detail }) => {
      this.#started = detail;
      this.render();
    });
    player.addEventListener("ended", () => this.render());
    player.addEventListener("statechange", () => {
      if (el("details").open) this.render();
    });
    el("details").addEventListener("toggle", () => this.render());
    el("say").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#speak();
    });
    el("say-text").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
      event.preventDefault();
      this.#speak();
    });
    el("say-stop").addEventListener("click", () => player.interrupt());
  }

  /** What `/health` and `/v1/voices` answered. @param {{ health: Health, voices: Voice[] }} answers */
  set service({ health, voices }) {
    this.#health = health;
    this.#voices = voices;
    this.render();
  }

  render() {
    this.#showVoices();
    this.#showRuns();
    this.#showTimings();
    const counters = Object.entries(this.#player.counters ?? {});
    el("counters").replaceChildren(...facts(counters.map(([name, n]) => [name.replaceAll("_", " "), number(n)])));
  }

  async #speak() {
    const text = el("say-text").value.trim();
    problem(text ? "" : t("needText"));
    if (!text) {
      el("say-text").focus();
      return;
    }
    const voice = el("voice").value;
    await this.#unlock();
    const speed = el("speed").valueAsNumber || DEFAULT_SPEED;
    const utterance = this.#player.speak({ text, speed, interrupt: true, ...(voice !== "auto" && { voice }) });
    const { outcome, error } = await utterance.ended;
    if (outcome === "failed") problem(error?.message ?? "");
  }

  #showVoices() {
    const names = new Intl.DisplayNames([language()], { type: "language" });
    const select = el("voice");
    const chosen = select.value || "auto";
    const options = this.#voices.map(({ id, name, gender, languages = [] }) => {
      const spoken = languages.slice(0, LANGUAGES_SHOWN).map((tag) => names.of(tag));
      const more = languages.length > LANGUAGES_SHOWN ? " …" : "";
      const parts = [name ?? id, t(gender === "male" ? "man" : "woman"), spoken.join(", ") + more];
      return make("option", { value: id }, parts.filter(Boolean).join(" · "));
    });
    select.replaceChildren(make("option", { value: "auto" }, t("voiceAuto")), ...options);
    select.value = chosen;
  }

  #showRuns() {
    /** @type {string[][]} */ const rows = [];
    const { engine, speech, versions } = this.#health ?? {};
    const lips = this.#ready?.lips ?? engine;
    const voice = this.#ready?.speech ?? (speech && { name: speech.engine, reason: speech.reason });
    const lipsRun = [lips?.name, engine?.device].filter(Boolean).join(" · ");
    if (lips) rows.push([t("lips"), `${lipsRun} (${lips.reason})`]);
    if (voice) rows.push([t("speech"), `${voice.name} (${voice.reason})`]);
    rows.push([t("transport"), [this.#player.mode ?? "–", this.#player.state].join(", ")]);
    if (this.#ready?.session) rows.push([t("session"), this.#ready.session]);
    if (versions) rows.push(["museserve", versions.museserve]);
    el("runs").replaceChildren(...facts(rows));
  }

  #showTimings() {
    el("timings-none").hidden = this.#started !== null;
    if (!this.#started) return;
    const { first_frame_ms, cached, timings_ms = {} } = this.#started;
    showRows(el("client-times"), [{ label: t("firstFrame"), ms: first_frame_ms }]);
    const stages = Object.entries(timings_ms).map(([name, ms]) => ({ label: name.replaceAll("_", " "), ms }));
    showRows(el("server-times"), stages);
    el("cached").textContent = t(`cached_${cached}`);
  }
}

/** @param {string} text */
function problem(text) {
  el("say-problem").hidden = !text;
  el("say-problem").textContent = text;
}

/** Fills `table` with rows, each with a bar as long as its share of the longest.
 * @param {HTMLTableElement} table @param {{ label: string, ms: number }[]} rows */
function showRows(table, rows) {
  const longest = Math.max(1, ...rows.map(({ ms }) => ms));
  table.hidden = rows.length === 0;
  table.tBodies[0].replaceChildren(
    ...rows.map(({ label, ms }) => {
      const row = make("tr", {}, make("th", { scope: "row" }, label), make("td", {}, `${number(ms)} ms`));
      row.style.setProperty("--share", `${((100 * ms) / longest).toFixed(1)}%`);
      return row;
    }),
  );
}

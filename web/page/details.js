// For developers: what runs and why, where the time of the last utterance went, and a box to say any text.

import { el, make } from "./dom.js";
import { language, say } from "./texts.js";

const number = (value) => (value < 10 && !Number.isInteger(value) ? value.toFixed(1) : Math.round(value).toLocaleString("en"));

export class Details {
  #player;
  #health = null;
  #voices = [];
  #ready = null;
  #started = null;

  #unlock;

  /** `unlock` allows sound, inside a gesture. */
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
    player.addEventListener("statechange", () => el("details").open && this.render());
    el("details").addEventListener("toggle", () => this.render());
    el("say").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#say();
    });
    el("say-text").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
      event.preventDefault();
      this.#say();
    });
    el("say-stop").addEventListener("click", () => player.interrupt());
  }

  /** What `/health` and `/v1/voices` answered. */
  set service({ health, voices }) {
    this.#health = health;
    this.#voices = voices;
    this.render();
  }

  render() {
    this.#showVoices();
    this.#showRuns();
    this.#showTimings();
    const counters = Object.entries(this.#player.counters ?? {}).map(([name, value]) => [name.replaceAll("_", " "), number(value)]);
    el("counters").replaceChildren(...facts(counters));
  }

  async #say() {
    const text = el("say-text").value.trim();
    problem(text ? "" : say("needText"));
    if (!text) {
      el("say-text").focus();
      return;
    }
    const voice = el("voice").value;
    await this.#unlock();
    const { outcome, error } = await this.#player.speak({ text, speed: el("speed").valueAsNumber || 1.1, interrupt: true, ...(voice !== "auto" && { voice }) }).ended;
    if (outcome === "failed") problem(error.message);
  }

  #showVoices() {
    const names = new Intl.DisplayNames([language()], { type: "language" });
    const select = el("voice");
    const chosen = select.value || "auto";
    const options = this.#voices.map(({ id, name, gender, languages = [] }) => {
      const spoken = languages.slice(0, 3).map((tag) => names.of(tag));
      const parts = [name ?? id, say(gender === "male" ? "man" : "woman"), spoken.join(", ") + (languages.length > 3 ? " …" : "")];
      return make("option", { value: id }, parts.filter(Boolean).join(" · "));
    });
    select.replaceChildren(make("option", { value: "auto" }, say("voiceAuto")), ...options);
    select.value = chosen;
  }

  #showRuns() {
    const rows = [];
    const { engine, speech, versions } = this.#health ?? {};
    const lips = this.#ready?.lips ?? engine;
    const voice = this.#ready?.speech ?? (speech && { name: speech.engine, reason: speech.reason });
    if (lips) rows.push([say("lips"), [lips.name, engine?.device].filter(Boolean).join(" · ") + ` (${lips.reason})`]);
    if (voice) rows.push([say("speech"), `${voice.name} (${voice.reason})`]);
    rows.push([say("transport"), [this.#player.mode ?? "–", this.#player.state].join(", ")]);
    if (this.#ready?.session) rows.push([say("session"), this.#ready.session]);
    if (versions) rows.push(["museserve", versions.museserve]);
    el("runs").replaceChildren(...facts(rows));
  }

  #showTimings() {
    el("timings-none").hidden = this.#started !== null;
    if (!this.#started) return;
    const { first_frame_ms, cached, timings_ms = {} } = this.#started;
    showRows(el("client-times"), [{ label: say("firstFrame"), ms: first_frame_ms }]);
    showRows(el("server-times"), Object.entries(timings_ms).map(([name, ms]) => ({ label: name.replaceAll("_", " "), ms })));
    el("cached").textContent = say(`cached_${cached}`);
  }
}

const facts = (rows) => rows.flatMap(([term, value]) => [make("dt", {}, term), make("dd", {}, value)]);

function problem(text) {
  el("say-problem").hidden = !text;
  el("say-problem").textContent = text;
}

/** Fills `table` with rows [{label, ms}], each with a bar as long as its share of the longest. */
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

// Shows how the interview goes, and turns buttons into its moves.

import { messageOf } from "../player/errors.js";
import { announce, clock, el } from "./dom.js";
import { PACES } from "./interview.js";
import { recall, remember } from "./settings.js";
import { notices } from "./stage.js";
import { t } from "./texts.js";
/** @import { Interview } from "./interview.js" */
/** @import { AvatarPlayer } from "../avatar-player.d.ts" */

export class InterviewView {
  #player;
  /** @type {Interview | null} */ #interview = null;
  #announced = ""; // what was announced last
  #bargeIn = false; // the candidate's voice may interrupt

  /** @param {AvatarPlayer} player */
  constructor(player) {
    this.#player = player;
    player.speed = recall("pace", 1.1);
    /** @type {(id: string, act: () => void) => void} */ const on = (id, act) => el(id).addEventListener("click", act);
    on("interrupt", () => this.#interview?.interrupt());
    on("next", () => this.#interview?.next());
    on("skip", () => this.#interview?.next({ skipped: true }));
    on("repeat", () => this.#interview?.repeat());
    on("end", () => this.#interview?.end());
    on("slower", () => this.#pace(-1));
    on("faster", () => this.#pace(1));
    on("barge", () => this.#setBargeIn(!this.#bargeIn));
    on("written", () => {
      remember("written", !recall("written", true));
      this.render();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.#interview && !document.querySelector("dialog[open]")) {
        this.#interview.interrupt();
      }
    });
    setInterval(() => this.#tick(), 250);
  }

  /** Follows `interview` from now on; null when it is over. @param {Interview | null} interview */
  show(interview) {
    if (interview && interview !== this.#interview) this.#announced = "";
    this.#interview = interview?.state === "done" ? null : interview;
    if (!this.#interview) {
      notices.clear("question");
      this.#setBargeIn(false);
    }
    this.render();
  }

  render() {
    this.#showPace();
    const written = recall("written", true);
    el("written").setAttribute("aria-pressed", String(written));
    el("barge").setAttribute("aria-pressed", String(this.#bargeIn));
    const interview = this.#interview;
    if (!interview || interview.state === "done") return;
    const { state } = interview;
    const step = t("progress", { n: interview.index + 1, total: interview.total });
    el("step").textContent = step;
    el("question").textContent = written ? interview.question : t("hiddenQuestion");
    el("question").classList.toggle("unwritten", !written);
    el("interview").dataset.state = state;
    el("state").textContent = t(`s_${state}`);
    el("next-text").textContent = t(interview.last ? "finish" : "next");
    const speaking = state === "asking" || state === "preparing";
    swap(el("interrupt"), el("next"), speaking);
    el("skip").hidden = interview.last || !speaking;
    el("timer").hidden = state !== "listening";
    this.#tick();
    this.#trouble(interview);
    // The question itself is not announced: a screen reader would speak over the interviewer. It can be read at any
    // time.
    const listening = `${t("s_listening")}. ${t("takeYourTime")}`;
    const announcement = state === "listening" ? listening : state === "asking" ? step : "";
    if (announcement && announcement !== this.#announced) announce((this.#announced = announcement));
  }

  /** @param {Interview} interview */
  #trouble({ state, error }) {
    if (state !== "trouble") {
      notices.clear("question");
      return;
    }
    const act = async () => {
      // Where that fails, asking fails too, and says why.
      if (this.#player.state === "failed") await this.#player.connect().catch(() => {});
      this.#interview?.repeat();
    };
    notices.show("question", { key: "e_speak", values: { message: error?.message ?? "" }, label: "retry", act });
  }

  #tick() {
    const since = this.#interview?.listeningSince;
    const text = since ? clock((performance.now() - since) / 1000) : "";
    if (el("timer").textContent !== text) el("timer").textContent = text;
  }

  /** @param {1 | -1} by */
  #pace(by) {
    const at = PACES.findIndex((pace) => pace >= this.#player.speed - 0.01);
    const pace = PACES[Math.min(PACES.length - 1, Math.max(0, at + by))];
    this.#player.speed = pace;
    remember("pace", pace);
    this.#showPace();
    announce(t("paceIs", { pace: `${pace}×` }));
  }

  #showPace() {
    const { speed } = this.#player;
    el("pace").textContent = `${Number(speed).toFixed(2).replace(/0$/, "")}×`;
    // aria-disabled and not disabled: the focus stays where it is.
    el("slower").setAttribute("aria-disabled", String(speed <= PACES[0]));
    el("faster").setAttribute("aria-disabled", String(speed >= PACES[PACES.length - 1]));
  }

  /** @param {boolean} on */
  async #setBargeIn(on) {
    if (on === this.#bargeIn) return;
    this.#bargeIn = on;
    notices.clear("microphone");
    if (on) {
      try {
        await this.#player.listen();
      } catch (error) {
        this.#bargeIn = false;
        const values = { message: messageOf(error) };
        const act = () => void notices.clear("microphone");
        notices.show("microphone", { key: "e_microphone", values, label: "close", act });
      }
    } else this.#player.stopListening();
    this.render();
  }
}

/** Shows one of two buttons in the same place; the focus goes along.
 * @param {HTMLElement} one @param {HTMLElement} other @param {boolean} showOne */
function swap(one, other, showOne) {
  const [shown, gone] = showOne ? [one, other] : [other, one];
  const focused = document.activeElement === gone;
  shown.hidden = false;
  gone.hidden = true;
  if (focused) shown.focus({ preventScroll: true });
}

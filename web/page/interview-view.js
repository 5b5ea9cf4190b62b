// Shows how the interview goes, and turns buttons into its moves.

import { messageOf } from "../player/errors.js";
import { announce, clock, el } from "./dom.js";
import { PACES } from "../interview.js";
import { recall, remember } from "./settings.js";
import { notices } from "./stage.js";
import { t } from "./texts.js";
/** @import { Interview } from "../interview.js" */
/** @import { AnswerRecorder } from "./recorder.js" */
/** @import { AvatarPlayer } from "../avatar-player.d.ts" */

export class InterviewView {
  #player;
  /** @type {Interview | null} */ #interview = null;
  #announced = ""; // what was announced last
  #bargeIn = false; // the candidate's voice may interrupt

  #quiet = false; // the service does not answer, or the connection is lost

  #recorder;

  /** @param {AvatarPlayer} player @param {AnswerRecorder} recorder
   * @param {() => void} onGoOn inside a gesture, before a kept interview goes on */
  constructor(player, recorder, onGoOn) {
    this.#player = player;
    this.#recorder = recorder;
    player.speed = recall("pace", 1.1);
    /** @type {(id: string, act: () => void) => void} */ const on = (id, act) => el(id).addEventListener("click", act);
    on("go-on", () => {
      onGoOn();
      this.#interview?.goOn();
    });
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
    player.addEventListener("notice", ({ detail: { code } }) => {
      if (code === "quiet" || code === "reconnecting") this.#quiet = true;
      else if (code === "heard") this.#quiet = false;
    });
    player.addEventListener("ready", () => {
      this.#quiet = false;
      this.render();
    });
    player.addEventListener("statechange", () => this.render());
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
    const question = written ? interview.question : t("hiddenQuestion");
    el("question").textContent = question;
    el("question").dataset.length = lengthOf(question);
    el("question").classList.toggle("unwritten", !written);
    el("interview").dataset.state = state;
    // It listens only where it may.
    const turn = t(this.#recorder.opened ? "s_recording" : this.#bargeIn ? "s_listening" : "s_turn");
    const speaking = state === "asking" || state === "preparing";
    const waits = speaking && this.#quiet && this.#player.state !== "speaking";
    el("state").textContent = waits ? t("s_lost") : state === "listening" ? turn : t(`s_${state}`);
    el("next-text").textContent = t(interview.last ? "finish" : "next");
    const paused = state === "paused";
    showOne([el("go-on"), el("interrupt"), el("next")], paused ? 0 : speaking ? 1 : 2);
    el("repeat").hidden = paused;
    el("skip").hidden = interview.last || !(speaking || paused);
    el("timer").hidden = state !== "listening";
    this.#tick();
    this.#trouble(interview);
    // The question itself is not announced: a screen reader would speak over the interviewer. It can be read at any
    // time.
    const listening = `${turn}. ${t("takeYourTime")}`;
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
    const text = this.#interview ? clock(this.#interview.answered) : "";
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

const LONG = [90, 180]; // letters, of which those of Hangul count twice

/** How long a question is, for its size. @param {string} text */
function lengthOf(text) {
  const wide = [...text].reduce((sum, letter) => sum + (/\p{Script=Hangul}/u.test(letter) ? 2 : 1), 0);
  return ["short", "long", "longest"][LONG.filter((least) => wide > least).length];
}

/** Shows one of several buttons in the same place; the focus goes along.
 * @param {HTMLElement[]} buttons @param {number} which */
function showOne(buttons, which) {
  const focused = buttons.includes(/** @type {HTMLElement} */ (document.activeElement));
  const moved = focused && document.activeElement !== buttons[which];
  for (const [i, button] of buttons.entries()) button.hidden = i !== which;
  if (moved) buttons[which].focus({ preventScroll: true });
}

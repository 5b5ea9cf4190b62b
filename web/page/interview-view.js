// Shows how the interview goes, and turns buttons into its moves.

import { announce, clock, el } from "./dom.js";
import { PACES } from "./interview.js";
import { recall, remember } from "./settings.js";
import { notices } from "./stage.js";
import { say } from "./texts.js";

export class InterviewView {
  #player;
  #interview = null;
  #said = ""; // what was announced last
  #hearing = false; // the candidate's voice may interrupt

  constructor(player) {
    this.#player = player;
    player.speed = recall("pace", 1.1);
    const on = (id, act) => el(id).addEventListener("click", act);
    on("interrupt", () => this.#interview.interrupt());
    on("next", () => this.#interview.next());
    on("skip", () => this.#interview.next({ skipped: true }));
    on("repeat", () => this.#interview.repeat());
    on("end", () => this.#interview.end());
    on("slower", () => this.#pace(-1));
    on("faster", () => this.#pace(1));
    on("barge", () => this.#hear(!this.#hearing));
    on("written", () => {
      remember("written", !recall("written", true));
      this.render();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.#interview && !document.querySelector("dialog[open]")) this.#interview.interrupt();
    });
    setInterval(() => this.#tick(), 250);
  }

  /** Follows `interview` from now on; null when it is over. */
  show(interview) {
    if (interview && interview !== this.#interview) this.#said = "";
    this.#interview = interview?.state === "done" ? null : interview;
    if (!this.#interview) {
      notices.clear("ask");
      this.#hear(false);
    }
    this.render();
  }

  render() {
    this.#showPace();
    const written = recall("written", true);
    el("written").setAttribute("aria-pressed", String(written));
    el("barge").setAttribute("aria-pressed", String(this.#hearing));
    const interview = this.#interview;
    if (!interview) return;
    const { state } = interview;
    const step = say("progress", { n: interview.index + 1, total: interview.total });
    el("step").textContent = step;
    el("question").textContent = written ? interview.question : say("hiddenQuestion");
    el("question").classList.toggle("unwritten", !written);
    el("interview").dataset.state = state;
    el("state").textContent = say(`s_${state}`);
    el("next-text").textContent = say(interview.last ? "finish" : "next");
    const speaking = state === "asking" || state === "preparing";
    swap(el("interrupt"), el("next"), speaking);
    el("skip").hidden = interview.last || !speaking;
    el("timer").hidden = state !== "listening";
    this.#tick();
    this.#trouble(interview);
    // The question itself is not announced: a screen reader would speak over the interviewer. It can be read at any time.
    const said = { listening: `${say("s_listening")}. ${say("takeYourTime")}`, asking: step }[state];
    if (said && said !== this.#said) announce((this.#said = said));
  }

  #trouble({ state, error }) {
    if (state !== "trouble") {
      notices.clear("ask");
      return;
    }
    const act = async () => {
      if (this.#player.state === "failed") await this.#player.connect().catch(() => {}); // then asking fails too, and says why
      this.#interview?.repeat();
    };
    notices.show("ask", { key: "e_speak", values: { message: error?.message ?? "" }, label: "retry", act });
  }

  #tick() {
    const since = this.#interview?.listeningSince;
    const text = since ? clock((performance.now() - since) / 1000) : "";
    if (el("timer").textContent !== text) el("timer").textContent = text;
  }

  #pace(by) {
    const at = PACES.findIndex((pace) => pace >= this.#player.speed - 0.01);
    const pace = PACES[Math.min(PACES.length - 1, Math.max(0, at + by))];
    this.#player.speed = pace;
    remember("pace", pace);
    this.#showPace();
    announce(say("paceIs", { pace: `${pace}×` }));
  }

  #showPace() {
    const { speed } = this.#player;
    el("pace").textContent = `${Number(speed).toFixed(2).replace(/0$/, "")}×`;
    // aria-disabled and not disabled: the focus stays where it is.
    el("slower").setAttribute("aria-disabled", String(speed <= PACES[0]));
    el("faster").setAttribute("aria-disabled", String(speed >= PACES.at(-1)));
  }

  async #hear(on) {
    if (on === this.#hearing) return;
    this.#hearing = on;
    notices.clear("microphone");
    if (on) {
      try {
        await this.#player.listen();
      } catch (error) {
        this.#hearing = false;
        notices.show("microphone", { key: "e_microphone", values: { message: error.message }, label: "close", act: () => notices.clear("microphone") });
      }
    } else {
      this.#player.stopListening();
    }
    this.render();
  }
}

/** Shows one of two buttons in the same place; the focus goes along. */
function swap(one, other, showOne) {
  const [shown, gone] = showOne ? [one, other] : [other, one];
  const focused = document.activeElement === gone;
  shown.hidden = false;
  gone.hidden = true;
  if (focused) shown.focus({ preventScroll: true });
}

// What was asked and how long each answer took, to read and to keep.

import { clock, download, el, make } from "./dom.js";
import { language, t } from "./texts.js";
import { plainText, webVtt } from "./transcript.js";
/** @import { Entry, Words } from "./types.d.ts" */
/** @import { Interview } from "./interview.js" */

export class FinishView {
  /** @type {Entry[]} */ #entries = [];
  #seconds = 0;
  #interviewer = "";
  #date = new Date();

  /** @param {{ again: () => void, back: () => void }} moves */
  constructor({ again, back }) {
    el("again").addEventListener("click", again);
    el("back").addEventListener("click", back);
    el("save-text").addEventListener("click", () => {
      download(this.#file("txt"), "text/plain", plainText(this.#entries, this.#words));
    });
    el("save-vtt").addEventListener("click", () => {
      download(this.#file("vtt"), "text/vtt", webVtt(this.#entries, this.#interviewer));
    });
  }

  /** @param {Interview} interview @param {string} interviewer */
  show(interview, interviewer) {
    this.#entries = interview.entries;
    this.#seconds = interview.seconds;
    this.#interviewer = interviewer;
    this.#date = new Date();
    this.render();
  }

  render() {
    const n = this.#entries.length;
    const values = { n, time: clock(this.#seconds) };
    el("summary").textContent = n === 0 ? t("finishNone") : t(n === 1 ? "finishSummaryOne" : "finishSummary", values);
    el("transcript").replaceChildren(...this.#entries.map(row));
    for (const id of ["transcript-title", "saves"]) el(id).hidden = n === 0;
  }

  /** @param {string} extension */
  #file(extension) {
    return `interview-${this.#date.toISOString().slice(0, 16).replace(/[T:]/g, "-")}.${extension}`;
  }

  /** @returns {Words} */
  get #words() {
    return {
      title: t("documentTitle"),
      interviewer: this.#interviewer,
      date: new Intl.DateTimeFormat(language(), { dateStyle: "long", timeStyle: "short" }).format(this.#date),
      answer: (time) => t("answeredIn", { time }),
      skipped: t("skipped"),
      repeated,
    };
  }
}

/** @param {number} n */
const repeated = (n) => (n === 1 ? t("repeatedOnce") : t("repeated", { n }));

/** @param {Entry} entry */
function row(entry) {
  const notes = [entry.skipped ? t("skipped") : t("answeredIn", { time: clock(entry.answered) })];
  if (entry.repeats) notes.push(repeated(entry.repeats));
  const said = make("p", { className: "said" }, entry.question);
  const noted = make("p", { className: "quiet" }, notes.join(" · "));
  return make("li", {}, make("span", { className: "at" }, clock(entry.askedAt)), make("div", {}, said, noted));
}

// What was asked and how long each answer took, to read and to keep.

import { clock, download, el, make } from "./dom.js";
import { language, say } from "./texts.js";
import { answered, plainText, webVtt } from "./transcript.js";

export class FinishView {
  #entries = [];
  #seconds = 0;
  #interviewer = "";
  #date = new Date();

  constructor({ again, back }) {
    el("again").addEventListener("click", again);
    el("back").addEventListener("click", back);
    el("save-text").addEventListener("click", () => download(this.#file("txt"), "text/plain", plainText(this.#entries, this.#words)));
    el("save-vtt").addEventListener("click", () => download(this.#file("vtt"), "text/vtt", webVtt(this.#entries, this.#interviewer)));
  }

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
    el("summary").textContent = n === 0 ? say("finishNone") : say(n === 1 ? "finishSummaryOne" : "finishSummary", values);
    el("transcript").replaceChildren(...this.#entries.map(row));
    for (const id of ["transcript-title", "saves"]) el(id).hidden = n === 0;
  }

  #file(extension) {
    return `interview-${this.#date.toISOString().slice(0, 16).replace(/[T:]/g, "-")}.${extension}`;
  }

  get #words() {
    return {
      title: say("documentTitle"),
      interviewer: this.#interviewer,
      date: new Intl.DateTimeFormat(language(), { dateStyle: "long", timeStyle: "short" }).format(this.#date),
      answer: (time) => say("answeredIn", { time }),
      skipped: say("skipped"),
      repeated,
    };
  }
}

const repeated = (n) => (n === 1 ? say("repeatedOnce") : say("repeated", { n }));

function row(entry) {
  const notes = [entry.skipped ? say("skipped") : say("answeredIn", { time: clock(answered(entry)) })];
  if (entry.repeats) notes.push(repeated(entry.repeats));
  return make(
    "li",
    {},
    make("span", { className: "at" }, clock(entry.askedAt)),
    make("div", {}, make("p", { className: "said" }, entry.question), make("p", { className: "quiet" }, notes.join(" · "))),
  );
}

// What was asked and how long each answer took, to read and to keep.

import { messageOf } from "../player/errors.js";
import { clock, download, el, icon, keep, make } from "./dom.js";
import { measure } from "./measured.js";
import { request } from "./service.js";
import { notices } from "./stage.js";
import { language, t } from "./texts.js";
import { plainText, webVtt } from "./transcript.js";
/** @import { Entry } from "../interview.d.ts" */
/** @import { Words } from "./types.d.ts" */
/** @import { Interview } from "../interview.js" */
/** @import { AnswerRecorder } from "./recorder.js" */

/** @type {Record<string, string>} */ const ENDINGS = { "audio/webm": "webm", "audio/mp4": "m4a", "audio/ogg": "ogg" };

export class FinishView {
  /** @type {Entry[]} */ #entries = [];
  #seconds = 0;
  #interviewer = "";
  #date = new Date();
  #recorder;
  /** @type {string[]} */ #urls = []; // of the recordings that are shown
  /** @type {Map<number, string>} */ #written = new Map(); // what was said, by the index of the question
  #writing = false;
  /** @type {string | null} */ #transcription = null;

  /** @param {{ again: () => void, back: () => void }} moves @param {AnswerRecorder} recorder */
  constructor({ again, back }, recorder) {
    this.#recorder = recorder;
    el("delete-answers").addEventListener("click", () => this.#delete());
    el("write-answers").addEventListener("click", () => this.#write());
    el("again").addEventListener("click", again);
    el("back").addEventListener("click", back);
    el("save-text").addEventListener("click", () => {
      download(this.#file("txt"), "text/plain", plainText(this.#entries, this.#words, this.#written));
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
    this.#written.clear();
    this.render();
  }

  /** The model that writes answers down; null where nothing does. @param {string | null} model */
  set transcription(model) {
    this.#transcription = model;
    this.render();
  }

  render() {
    const n = this.#entries.length;
    const values = { n, time: clock(this.#seconds) };
    el("summary").textContent = n === 0 ? t("finishNone") : t(n === 1 ? "finishSummaryOne" : "finishSummary", values);
    for (const url of this.#urls) URL.revokeObjectURL(url);
    this.#urls = [];
    el("transcript").replaceChildren(...this.#entries.map((entry, i) => row(entry, this.#answer(i))));
    el("recorded").hidden = !this.#recorder.any;
    const model = this.#transcription;
    el("recorded-hint").textContent = model === null ? t("notWritten") : t("writtenBy", { model });
    el("write-answers").hidden = model === null;
    el("write-answers").disabled = this.#writing;
    for (const id of ["transcript-title", "saves"]) el(id).hidden = n === 0;
  }

  /** What was recorded of an answer, to hear, keep or delete. @param {number} i */
  #answer(i) {
    const recording = this.#recorder.answer(i);
    if (!recording) return [];
    const url = URL.createObjectURL(recording);
    this.#urls.push(url);
    const values = { n: i + 1 };
    const sound = make("audio", { src: url, controls: true, preload: "metadata", "aria-label": t("hearAnswer", values) });
    const name = this.#file(ENDINGS[recording.type] ?? "audio").replace(".", `-${i + 1}.`);
    /** @type {(glyph: string, title: string, act: () => void) => HTMLButtonElement} */
    const tool = (glyph, title, act) => {
      const button = make("button", { type: "button", className: "tool", title, "aria-label": title });
      button.append(icon(glyph));
      button.addEventListener("click", act);
      return button;
    };
    const save = tool("save", t("downloadAnswer", values), () => keep(name, recording));
    const remove = tool("remove", t("deleteAnswer", values), () => this.#delete(i));
    const facts = make("p", { className: "quiet" });
    const written = this.#written.get(i);
    measure(recording).then(({ seconds, pauses, longest }) => {
      const told = { n: pauses, longest: longest.toFixed(1) };
      const paused = t(pauses === 0 ? "pausesNone" : pauses === 1 ? "pausesOne" : "pauses", told);
      const pace = written ? [t("wordsAMinute", { n: Math.round(wordsOf(written) / (seconds / 60)) })] : [];
      facts.textContent = [t("answerFacts", { time: clock(seconds) }), paused, ...pace].join(" · ");
    }, () => {}); // what the browser cannot read again is heard all the same
    const text = written === undefined ? [] : [make("p", { className: "written", dir: "auto" }, written || t("nothingHeard"))];
    return [make("div", { className: "answer" }, sound, save, remove), ...text, facts];
  }

  /** Has the service write down what is not written yet. */
  async #write() {
    notices.clear("transcription");
    this.#writing = true;
    this.render();
    try {
      for (const i of this.#entries.keys()) {
        const recording = this.#recorder.answer(i);
        if (!recording || this.#written.has(i)) continue;
        const body = new FormData();
        body.set("file", recording, `answer.${ENDINGS[recording.type] ?? "audio"}`);
        const answer = await request("v1/audio/transcriptions", { method: "POST", body });
        this.#written.set(i, (await answer.json()).text);
      }
    } catch (error) {
      const values = { message: messageOf(error) };
      const act = () => void notices.clear("transcription");
      notices.show("transcription", { key: "e_plain", values, label: "close", act });
    }
    this.#writing = false;
    this.render();
  }

  /** @param {number} [i] */
  #delete(i) {
    this.#recorder.delete(i);
    if (i === undefined) this.#written.clear();
    else this.#written.delete(i);
    this.render();
    el("finish-title").focus({ preventScroll: true });
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

/** @param {string} text */
const wordsOf = (text) => text.split(/\s+/).filter(Boolean).length;

/** @param {number} n */
const repeated = (n) => (n === 1 ? t("repeatedOnce") : t("repeated", { n }));

/** @param {Entry} entry @param {HTMLElement[]} answer */
function row(entry, answer) {
  const notes = [entry.skipped ? t("skipped") : t("answeredIn", { time: clock(entry.answered) })];
  if (entry.repeats) notes.push(repeated(entry.repeats));
  const said = make("p", { className: "said" }, entry.question);
  const noted = make("p", { className: "quiet" }, notes.join(" · "));
  return make("li", {}, make("span", { className: "at" }, clock(entry.askedAt)), make("div", {}, said, noted, ...answer));
}

// The editable list of questions: written in place, moved and removed with buttons or from the keyboard, every change
// undoable.

import { announce, el, icon, make } from "./dom.js";
import { t } from "./texts.js";

export class QuestionList {
  #list = el("questions");
  #undo = el("undo");
  #undoButton = /** @type {HTMLButtonElement} */ (this.#undo.querySelector("button"));
  #undoText = /** @type {HTMLElement} */ (this.#undo.querySelector("span"));
  /** @type {string[]} */ #questions = [];
  /** @type {string[]} */ #before = []; // what `undo` brings back
  #changed;

  /** @param {(questions: string[]) => void} changed after every change a person made */
  constructor(changed) {
    this.#changed = changed;
    el("add-question").addEventListener("click", () => this.#insert(this.#questions.length));
    this.#undoButton.addEventListener("click", () => this.#restore());
  }

  /** All questions as they stand, empty ones too. */
  get all() {
    return [...this.#questions];
  }

  /** The questions that have words, trimmed. */
  get filled() {
    return this.#questions.map((text) => text.trim()).filter(Boolean);
  }

  /** Shows `questions`. With `message`, the list before can be brought back. @param {string[]} questions */
  show(questions, message = "") {
    if (message) this.#keep(message);
    else this.#forget();
    this.#questions = [...questions];
    this.render();
    if (message) this.#changed(this.all);
  }

  /** @param {number} i */
  focus(i) {
    this.#fields[i]?.focus();
  }

  render() {
    this.#list.replaceChildren(...this.#questions.map((text, i) => this.#row(text, i)));
    for (const field of this.#fields) fit(field);
  }

  get #fields() {
    return [...this.#list.querySelectorAll("textarea")];
  }

  /** @param {string} text @param {number} i */
  #row(text, i) {
    const n = i + 1;
    const described = { "aria-label": t("questionN", { n }), "aria-describedby": "questions-hint" };
    const field = make("textarea", { value: text, rows: 1, dir: "auto", maxLength: 2000, ...described });
    field.addEventListener("input", () => {
      this.#questions[i] = field.value;
      fit(field);
      this.#forget();
      this.#changed(this.all);
    });
    field.addEventListener("keydown", (event) => this.#key(event, i));
    /** @type {(name: string, title: string, act: () => void, disabled?: boolean) => HTMLButtonElement} */
    const tool = (name, title, act, disabled = false) => {
      const button = make("button", { type: "button", className: "tool", title, disabled, "aria-label": title });
      button.append(icon(name));
      button.addEventListener("click", act);
      return button;
    };
    const tools = make(
      "div",
      { className: "row-tools" },
      tool("up", t("moveUp", { n }), () => this.#move(i, -1, 0), i === 0),
      tool("down", t("moveDown", { n }), () => this.#move(i, 1, 1), i === this.#questions.length - 1),
      tool("remove", t("removeQuestion", { n }), () => this.#remove(i)),
    );
    const number = make("span", { className: "number", "aria-hidden": "true" }, String(n));
    return make("li", {}, number, field, tools);
  }

  /** @param {KeyboardEvent} event @param {number} i */
  #key(event, i) {
    if (event.isComposing) return; // Enter ends a syllable of a Korean input method
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      this.#insert(i + 1);
    } else if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      event.preventDefault();
      this.#move(i, event.key === "ArrowUp" ? -1 : 1);
    } else if (event.key === "Backspace" && this.#questions[i] === "" && this.#questions.length > 1) {
      event.preventDefault();
      this.#remove(i);
    }
  }

  /** @param {number} i */
  #insert(i) {
    this.#questions.splice(i, 0, "");
    this.#forget();
    this.render();
    this.focus(i);
    this.#changed(this.all);
  }

  /** @param {number} i @param {number} by
   * @param {number | null} [button] the row's button that had the focus and keeps it; without it the field has it */
  #move(i, by, button = null) {
    const to = i + by;
    if (to < 0 || to >= this.#questions.length) return;
    const [moved] = this.#questions.splice(i, 1);
    this.#questions.splice(to, 0, moved);
    this.#forget();
    this.render();
    /** @type {NodeListOf<HTMLButtonElement>} */ const tools = this.#list.children[to].querySelectorAll(".tool");
    const again = button === null ? null : tools[button];
    if (again && !again.disabled) again.focus();
    else this.focus(to);
    announce(t("moved", { n: to + 1, total: this.#questions.length }));
    this.#changed(this.all);
  }

  /** @param {number} i */
  #remove(i) {
    this.#keep(t("removedQuestion", { n: i + 1 }));
    this.#questions.splice(i, 1);
    this.render();
    if (this.#questions.length) this.focus(Math.min(i, this.#questions.length - 1));
    else el("add-question").focus();
    this.#changed(this.all);
  }

  /** @param {string} message */
  #keep(message) {
    this.#before = [...this.#questions];
    this.#undo.hidden = false;
    this.#undoText.textContent = message;
    announce(message);
  }

  #forget() {
    this.#before = [];
    this.#undo.hidden = true;
  }

  #restore() {
    this.#questions = this.#before;
    this.#forget();
    this.render();
    this.focus(0);
    announce(t("restored"));
    this.#changed(this.all);
  }
}

/** As tall as its text; newer browsers do it by `field-sizing`. @param {HTMLElement} field */
function fit(field) {
  if (CSS.supports("field-sizing", "content")) return;
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
}

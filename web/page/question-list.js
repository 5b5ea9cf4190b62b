// The editable list of questions: written in place, moved and removed with buttons or from the keyboard, every change undoable.

import { announce, el, icon, make } from "./dom.js";
import { say } from "./texts.js";

export class QuestionList {
  #list = el("questions");
  #undo = el("undo");
  #questions = [];
  #before = null; // what `undo` brings back
  #changed;

  /** `changed(questions)` is called after every change a person made. */
  constructor(changed) {
    this.#changed = changed;
    el("add-question").addEventListener("click", () => this.#insert(this.#questions.length));
    this.#undo.querySelector("button").addEventListener("click", () => this.#restore());
  }

  /** All questions as they stand, empty ones too. */
  get all() {
    return [...this.#questions];
  }

  /** The questions that have words, trimmed. */
  get asked() {
    return this.#questions.map((text) => text.trim()).filter(Boolean);
  }

  /** Shows `questions`. With `said`, the list before can be brought back. */
  show(questions, said = null) {
    if (said) this.#keep(said);
    else this.#forget();
    this.#questions = [...questions];
    this.render();
    if (said) this.#changed(this.all);
  }

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

  #row(text, i) {
    const n = i + 1;
    const field = make("textarea", { value: text, rows: 1, dir: "auto", maxLength: 2000, "aria-label": say("questionN", { n }), "aria-describedby": "questions-hint" });
    field.addEventListener("input", () => {
      this.#questions[i] = field.value;
      fit(field);
      this.#forget();
      this.#changed(this.all);
    });
    field.addEventListener("keydown", (event) => this.#key(event, i));
    const tool = (name, key, act, disabled = false) => {
      const button = make("button", { type: "button", className: "tool", title: say(key, { n }), disabled, "aria-label": say(key, { n }) }, icon(name));
      button.addEventListener("click", act);
      return button;
    };
    const tools = make(
      "div",
      { className: "row-tools" },
      tool("up", "moveUp", () => this.#move(i, -1, 0), i === 0),
      tool("down", "moveDown", () => this.#move(i, 1, 1), i === this.#questions.length - 1),
      tool("remove", "removeQuestion", () => this.#remove(i)),
    );
    return make("li", {}, make("span", { className: "number", "aria-hidden": "true" }, String(n)), field, tools);
  }

  #key(event, i) {
    if (event.isComposing) return; // Enter ends a syllable of a Korean input method
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      this.#insert(i + 1);
    } else if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      event.preventDefault();
      this.#move(i, event.key === "ArrowUp" ? -1 : 1);
    } else if (event.key === "Backspace" && event.target.value === "" && this.#questions.length > 1) {
      event.preventDefault();
      this.#remove(i);
    }
  }

  #insert(i) {
    this.#questions.splice(i, 0, "");
    this.#forget();
    this.render();
    this.focus(i);
    this.#changed(this.all);
  }

  /** `button`: which of the row's buttons had the focus, to keep it there; without it the field has it. */
  #move(i, by, button = null) {
    const to = i + by;
    if (to < 0 || to >= this.#questions.length) return;
    const [moved] = this.#questions.splice(i, 1);
    this.#questions.splice(to, 0, moved);
    this.#forget();
    this.render();
    const again = button === null ? null : this.#list.children[to].querySelectorAll(".tool")[button];
    if (again && !again.disabled) again.focus();
    else this.focus(to);
    announce(say("moved", { n: to + 1, total: this.#questions.length }));
    this.#changed(this.all);
  }

  #remove(i) {
    this.#keep(say("removedQuestion", { n: i + 1 }));
    this.#questions.splice(i, 1);
    this.render();
    if (this.#questions.length) this.focus(Math.min(i, this.#questions.length - 1));
    else el("add-question").focus();
    this.#changed(this.all);
  }

  #keep(said) {
    this.#before = [...this.#questions];
    this.#undo.hidden = false;
    this.#undo.querySelector("span").textContent = said;
    announce(said);
  }

  #forget() {
    this.#before = null;
    this.#undo.hidden = true;
  }

  #restore() {
    this.#questions = this.#before;
    this.#forget();
    this.render();
    this.focus(0);
    announce(say("restored"));
    this.#changed(this.all);
  }
}

// As tall as its text; newer browsers do it by `field-sizing`.
function fit(field) {
  if (CSS.supports("field-sizing", "content")) return;
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
}

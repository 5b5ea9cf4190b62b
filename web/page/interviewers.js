// Choose who asks: portraits of the service's avatars, the shipped ones and those that people made.

import { el, icon, make } from "./dom.js";
import { ask, askJson, avatarUrl } from "./service.js";
import { say } from "./texts.js";

export class Interviewers {
  #box = el("interviewers");
  #avatars = [];
  #chosen = null;
  #onChoose;
  #onProblem;

  /** `onChoose(avatar)` is called when another one is chosen, `onProblem(error)` when one cannot be removed. */
  constructor({ onChoose, onProblem }) {
    this.#onChoose = onChoose;
    this.#onProblem = onProblem;
  }

  get chosen() {
    return this.#chosen;
  }

  /** Fetches the list and chooses `id`, or the first one when it is not there. Throws ServiceError. */
  async load(id) {
    this.#avatars = (await askJson("v1/avatars")).data;
    this.choose(id);
  }

  choose(id) {
    const found = this.#avatars.find((one) => one.id === id) ?? this.#avatars[0];
    const other = found?.id !== this.#chosen?.id;
    this.#chosen = found ?? null;
    this.render();
    if (other && found) this.#onChoose(found);
  }

  render() {
    const add = make("button", { type: "button", className: "person add", id: "add-open" }, make("i", {}, icon("add")), make("span", {}, say("addAvatar")));
    add.addEventListener("click", () => el("add").dispatchEvent(new Event("ask")));
    this.#box.replaceChildren(...this.#avatars.map((one) => this.#tile(one)), add);
  }

  /** The name to show; the shipped ones are called by what they are. */
  nameOf(one) {
    return one.builtin ? `${say("interviewer")} · ${say(one.gender === "male" ? "man" : "woman")}` : one.name;
  }

  #tile(one) {
    const radio = make("input", { type: "radio", name: "interviewer", value: one.id, checked: one.id === this.#chosen?.id });
    radio.addEventListener("change", () => this.choose(one.id));
    radio.addEventListener("change", () => this.#box.querySelector(":checked").focus());
    const picture = make("img", { src: avatarUrl(one.id, "/portrait"), alt: "", width: 96, height: 96, decoding: "async" });
    const kind = say(one.gender === "male" ? "man" : "woman");
    const label = make("label", { className: "person" }, radio, picture, make("span", {}, one.builtin ? kind[0].toUpperCase() + kind.slice(1) : one.name));
    if (one.builtin) return label;
    const name = say("removeAvatar", one);
    const remove = make("button", { type: "button", className: "tool remove", title: name, "aria-label": name }, icon("remove"));
    remove.addEventListener("click", () => this.#remove(one));
    return make("div", { className: "own" }, label, remove);
  }

  async #remove(one) {
    if (!(await confirmed(say("removeAsk", one)))) return;
    try {
      await ask(avatarUrl(one.id), { method: "DELETE" });
    } catch (error) {
      this.#onProblem(error);
      return;
    }
    this.#avatars = this.#avatars.filter(({ id }) => id !== one.id);
    this.choose(this.#chosen.id === one.id ? null : this.#chosen.id);
    this.#box.querySelector(":checked").focus();
  }
}

function confirmed(question) {
  const dialog = el("confirm");
  el("confirm-title").textContent = question;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

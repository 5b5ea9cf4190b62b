// Choose who asks: portraits of the service's avatars, the shipped ones and those that people made.

import { el, icon, make } from "./dom.js";
import { avatarUrl, request, requestJson, showPicture } from "./service.js";
import { t } from "./texts.js";
/** @import { Avatar } from "./types.d.ts" */

const TILE = 192; // pixels: 64 points on the finest screens

export class Interviewers {
  #box = el("interviewers");
  /** @type {Avatar[]} */ #avatars = [];
  /** @type {Avatar | null} */ chosen = null;
  #hooks;

  /** `onChoose` is called when another one is chosen, `onProblem` when one cannot be removed.
   * @param {{ onChoose: (avatar: Avatar) => void, onProblem: (error: unknown) => void }} hooks */
  constructor(hooks) {
    this.#hooks = hooks;
  }

  /** Fetches the list. Throws ServiceError. */
  async fetch() {
    this.#avatars = (await requestJson("v1/avatars")).data;
  }

  /** Fetches the list and chooses `id`, or the first one when it is not there. Throws ServiceError.
   * @param {string} id */
  async load(id) {
    await this.fetch();
    this.choose(id);
  }

  /** @param {string} [id] */
  choose(id) {
    const found = this.#avatars.find((one) => one.id === id) ?? this.#avatars[0];
    const other = found?.id !== this.chosen?.id;
    this.chosen = found ?? null;
    this.render();
    if (other && found) this.#hooks.onChoose(found);
  }

  render() {
    const add = make("button", { type: "button", className: "person add", id: "add-open" });
    add.append(make("i", {}, icon("add")), make("span", {}, t("addAvatar")));
    add.addEventListener("click", () => el("add").dispatchEvent(new Event("open-add")));
    this.#box.replaceChildren(...this.#avatars.map((one) => this.#tile(one)), add);
  }

  /** The name to show; the shipped ones are called by what they are. @param {Avatar} one */
  nameOf(one) {
    return one.builtin ? `${t("interviewer")} · ${t(one.gender === "male" ? "man" : "woman")}` : one.name;
  }

  /** @param {Avatar} one */
  #tile(one) {
    const checked = one.id === this.chosen?.id;
    const radio = make("input", { type: "radio", name: "interviewer", value: one.id, checked });
    radio.addEventListener("change", () => {
      this.choose(one.id);
      this.#focusChosen();
    });
    const picture = make("img", { alt: "", width: 96, height: 96, decoding: "async" });
    const address = avatarUrl(one.id, `/portrait?size=${TILE}&version=${one.version}`);
    showPicture(picture, address).catch(() => {}); // its name is there
    const kind = t(one.gender === "male" ? "man" : "woman");
    const name = one.builtin ? kind[0].toUpperCase() + kind.slice(1) : one.name;
    const label = make("label", { className: "person" }, radio, picture, make("span", {}, name));
    if (one.builtin) return label;
    const removal = t("removeAvatar", { name: one.name });
    const remove = make("button", { type: "button", className: "tool remove", title: removal, "aria-label": removal });
    remove.append(icon("remove"));
    remove.addEventListener("click", () => this.#remove(one));
    return make("div", { className: "own" }, label, remove);
  }

  #focusChosen() {
    /** @type {HTMLElement | null} */ (this.#box.querySelector(":checked"))?.focus();
  }

  /** @param {Avatar} one */
  async #remove(one) {
    if (!(await confirmed(t("removeAsk", { name: one.name })))) return;
    // Nobody is on the screen who is gone.
    if (this.chosen?.id === one.id) this.choose(this.#avatars.find(({ id }) => id !== one.id)?.id);
    try {
      await request(avatarUrl(one.id), { method: "DELETE" });
    } catch (error) {
      this.#hooks.onProblem(error);
      return;
    }
    this.#avatars = this.#avatars.filter(({ id }) => id !== one.id);
    this.choose(this.chosen?.id);
    this.#focusChosen();
  }
}

/** @param {string} question @returns {Promise<boolean>} */
function confirmed(question) {
  const dialog = el("confirm");
  el("confirm-title").textContent = question;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

// The element's attributes as properties, and what follows from them.

const TEXTS = { src: "", avatar: "", voice: "auto", language: "auto", captions: "on", motion: "auto", label: "" };
const SHORT = { man: "interviewer_man", woman: "interviewer_woman" };

/** What every utterance takes unless it says otherwise. */
export const mannerOf = ({ voice, speed, language }) => ({ voice, speed, language });

/** An HTMLElement with the player's attributes. `ORIGIN`: of the service, where `src` names none. */
export class WithAttributes extends HTMLElement {
  static ORIGIN = new URL(import.meta.url).origin;

  get speed() {
    const speed = Number(this.getAttribute("speed") ?? 1.1);
    return speed >= 0.25 && speed <= 4 ? speed : 1.1;
  }

  set speed(speed) {
    this.setAttribute("speed", String(speed));
  }

  get muted() {
    return this.hasAttribute("muted");
  }

  set muted(muted) {
    this.toggleAttribute("muted", Boolean(muted));
  }

  /** An address of the service. */
  address(path) {
    return new URL(path, new URL(this.src || WithAttributes.ORIGIN, location.href)).href;
  }

  portraitOf(avatar = this.avatarId) {
    return avatar && this.address(`/v1/avatars/${encodeURIComponent(avatar)}/portrait`);
  }

  get avatarId() {
    return SHORT[this.avatar] ?? this.avatar;
  }

  tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

for (const [name, otherwise] of Object.entries(TEXTS)) {
  Object.defineProperty(WithAttributes.prototype, name, {
    configurable: true,
    enumerable: true,
    get() {
      return this.getAttribute(name) ?? otherwise;
    },
    set(value) {
      this.setAttribute(name, String(value));
    },
  });
}

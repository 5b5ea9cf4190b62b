// The element's attributes as properties, and what follows from them.

/** @import { AvatarPlayer as Declared, PlayerEvents } from "../avatar-player.d.ts" */
/** @import { VoiceSettings } from "./types.d.ts" */

const DEFAULT_SPEED = 1.1;
/** @type {Record<string, string>} */ const SHORT = { man: "interviewer_man", woman: "interviewer_woman" };

/** @satisfies {{ [name in keyof Declared]?: Declared[name] }} */
const TEXTS = {
  src: "",
  avatar: "",
  voice: "auto",
  language: "auto",
  captions: /** @type {Declared["captions"]} */ ("on"),
  motion: /** @type {Declared["motion"]} */ ("auto"),
  label: "",
};

/** What every utterance takes unless it says otherwise. @param {VoiceSettings} element */
export const voiceSettingsOf = ({ voice, speed, language }) => ({ voice, speed, language });

/** Null and undefined, which frameworks give for what is absent, leave the default.
 * @param {HTMLElement} element @param {string} name @param {unknown} value */
function reflect(element, name, value) {
  if ((value ?? null) === null) element.removeAttribute(name);
  else element.setAttribute(name, String(value));
}

// A server that renders pages has no elements: it imports this all the same.
const Base = globalThis.HTMLElement ?? class {};

// Their accessors are made below, from the table.
const WithTexts = /** @type {new () => HTMLElement & typeof TEXTS} */ (/** @type {unknown} */ (class extends Base {}));

/** An HTMLElement with the player's attributes. `ORIGIN`: of the service, where `src` names none. */
export class WithAttributes extends WithTexts {
  static ORIGIN = new URL(import.meta.url).origin;

  get speed() {
    const speed = Number(this.getAttribute("speed") ?? DEFAULT_SPEED);
    return speed >= 0.25 && speed <= 4 ? speed : DEFAULT_SPEED;
  }

  set speed(speed) {
    reflect(this, "speed", speed);
  }

  get muted() {
    return this.hasAttribute("muted");
  }

  set muted(muted) {
    this.toggleAttribute("muted", Boolean(muted));
  }

  /** Frameworks may set properties before the element is defined; those then hide the accessors. */
  takeEarlyProperties() {
    const early = /** @type {Record<string, unknown>} */ (/** @type {unknown} */ (this));
    for (const name of [...Object.keys(TEXTS), "speed", "muted", "token"]) {
      if (!Object.hasOwn(early, name)) continue;
      const value = early[name];
      delete early[name];
      early[name] = value;
    }
  }

  /** An address of the service. @param {string} path */
  address(path) {
    return new URL(path, new URL(this.src || WithAttributes.ORIGIN, location.href)).href;
  }

  get avatarId() {
    return SHORT[this.avatar] ?? this.avatar;
  }

  /** @template {keyof PlayerEvents} Type @param {Type} type @param {PlayerEvents[Type]["detail"]} detail */
  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

for (const [name, otherwise] of Object.entries(TEXTS)) {
  Object.defineProperty(WithTexts.prototype, name, {
    configurable: true,
    enumerable: true,
    /** @this {HTMLElement} */
    get() {
      return this.getAttribute(name) ?? otherwise;
    },
    /** @this {HTMLElement} @param {unknown} value */
    set(value) {
      reflect(this, name, value);
    },
  });
}

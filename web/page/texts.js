// The words of the page in the language that was chosen.

import { recall, remember } from "./settings.js";
import en from "./words-en.js";
import ko from "./words-ko.js";

export const TEXTS = { en, ko };
export const LANGUAGES = Object.keys(TEXTS);

let chosen = null;

/** The language of the page: what was chosen before, else the first of the browser's languages that we have. */
export function language() {
  if (chosen === null) {
    const kept = recall("language");
    const spoken = navigator.languages.map((tag) => tag.split("-")[0]);
    chosen = LANGUAGES.includes(kept) ? kept : (spoken.find((tag) => LANGUAGES.includes(tag)) ?? "en");
  }
  return chosen;
}

export function setLanguage(value) {
  chosen = value;
  remember("language", value);
}

/** The sentence `key` with its values. A message that ends with a full stop makes no second one. */
export const say = (key, values = {}) => TEXTS[language()][key].replace(/\{(\w+)\}(\.?)/g, (_, name, stop) => String(values[name] ?? "").replace(stop && /\.$/, "") + stop);

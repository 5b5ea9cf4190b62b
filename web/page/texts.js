// The words of the page in the language that was chosen.

import { recall, remember } from "./settings.js";
import en from "./words-en.js";
import ko from "./words-ko.js";
/** @import { Language, TextKey } from "./types.d.ts" */

export const TEXTS = { en, ko };
export const LANGUAGES = /** @type {Language[]} */ (Object.keys(TEXTS));

/** @type {Language | null} */ let chosen = null;

/** The language of the page: what was chosen before, else the first of the browser's languages that we have. */
export function language() {
  if (chosen === null) {
    const wanted = [recall("language", ""), ...navigator.languages.map((tag) => tag.split("-")[0])];
    const known = wanted.find((tag) => Object.hasOwn(TEXTS, tag));
    chosen = /** @type {Language | undefined} */ (known) ?? "en";
  }
  return chosen;
}

/** @param {Language} value */
export function setLanguage(value) {
  chosen = value;
  remember("language", value);
}

/** The sentence `key` with its values. A message that ends with a full stop makes no second one.
 * @param {TextKey} key @param {Record<string, unknown>} [values] */
export function t(key, values = {}) {
  /** @type {(match: string, name: string, stop: string) => string} */
  const filled = (_, name, stop) => String(values[name] ?? "").replace(stop && /\.$/, "") + stop;
  return TEXTS[language()][key].replace(/\{(\w+)\}(\.?)/g, filled);
}

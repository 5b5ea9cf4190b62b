// What a visitor chose before. It stays in this browser; without storage the page works and forgets.

const KEY = "museserve.page";

/** @returns {Record<string, any>} */
function stored() {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "null") ?? {};
  } catch {
    return {};
  }
}

const kept = stored();

/** @template Value @param {string} name @param {Value} otherwise @returns {Value} */
export const recall = (name, otherwise) => kept[name] ?? otherwise;

/** @param {string} name @param {unknown} value */
export function remember(name, value) {
  kept[name] = value;
  try {
    localStorage.setItem(KEY, JSON.stringify(kept));
  } catch {
    // Storage is off or full; the choice lasts as long as the page.
  }
}

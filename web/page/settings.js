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

const TAB_KEY = "museserve.interview";

/** What this tab has in hand, also after it was loaded again; null: nothing any more. @param {unknown} value */
export function keepInTab(value) {
  try {
    if (value === null) sessionStorage.removeItem(TAB_KEY);
    else sessionStorage.setItem(TAB_KEY, JSON.stringify(value));
  } catch {
    // Storage is off: what is in hand ends with the page.
  }
}

/** @returns {any} null where there is nothing */
export function keptInTab() {
  try {
    return JSON.parse(sessionStorage.getItem(TAB_KEY) ?? "null");
  } catch {
    return null;
  }
}

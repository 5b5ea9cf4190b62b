// What a visitor chose before. It stays in this browser; without storage the page works and forgets.

const KEY = "museserve.page";

function stored() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
}

const kept = stored();

export const recall = (name, otherwise) => kept[name] ?? otherwise;

export function remember(name, value) {
  kept[name] = value;
  try {
    localStorage.setItem(KEY, JSON.stringify(kept));
  } catch {
    // Storage is off or full; the choice lasts as long as the page.
  }
}

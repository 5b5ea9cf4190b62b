// Where the time of an utterance went: what this browser saw, and what the service says of itself.

/** A `Server-Timing` header as [{name, ms, description}]; entries without a duration are left out. */
export function parseServerTiming(header) {
  const entries = (header ?? "").match(/(?:[^,"]|"(?:[^"\\]|\\.)*")+/g) ?? [];
  return entries
    .map((entry) => {
      const [name, ...parameters] = entry.match(/(?:[^;"]|"(?:[^"\\]|\\.)*")+/g).map((part) => part.trim());
      const values = Object.fromEntries(
        parameters.map((parameter) => {
          const [key, ...value] = parameter.split("=");
          return [key.trim().toLowerCase(), value.join("=").trim().replace(/^"|"$/g, "")];
        }),
      );
      return { name, ms: Number.parseFloat(values.dur), description: values.desc ?? "" };
    })
    .filter(({ ms }) => Number.isFinite(ms));
}

/** Milliseconds since the click, by name. Each name is taken once: the first time counts. */
export class Clock {
  #zero = performance.now();
  marks = new Map();

  mark(name, at = performance.now()) {
    if (!this.marks.has(name)) this.marks.set(name, at - this.#zero);
  }
}

const number = (ms) => (ms < 10 ? ms.toFixed(1) : Math.round(ms).toLocaleString("en"));

/** Fills `table` with rows [{label, ms, bar}]; a row's bar is as long as its share of the longest one that has `bar`. */
export function showRows(table, rows) {
  const longest = Math.max(1, ...rows.filter(({ bar }) => bar).map(({ ms }) => ms));
  table.hidden = rows.length === 0;
  table.tBodies[0].replaceChildren(
    ...rows.map(({ label, ms, bar }) => {
      const row = document.createElement("tr");
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = label;
      const value = document.createElement("td");
      value.textContent = `${number(ms)} ms`;
      if (bar) {
        row.className = "bar-row";
        row.style.setProperty("--share", `${((100 * ms) / longest).toFixed(1)}%`);
      }
      row.append(head, value);
      return row;
    }),
  );
}

// Small helpers for the document.

import { make } from "../player/dom.js";
export { make };
/** @import { PageElements } from "./types.d.ts" */

/** An element of index.html. @template {string} Id @param {Id} id */
export function el(id) {
  const node = document.getElementById(id);
  if (!node) throw new Error(`the page has no #${id}`);
  return /** @type {Id extends keyof PageElements ? PageElements[Id] : HTMLElement} */ (node);
}

/** Terms and values of a `dl`. @param {string[][]} rows */
export const facts = (rows) => rows.flatMap(([term, value]) => [make("dt", {}, term), make("dd", {}, value)]);

/** An icon of icons.svg, hidden from screen readers: whoever shows it names the control. @param {string} name */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `page/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/** Says `text` once to a screen reader, also when it is the same as before. @param {string} text */
export function announce(text) {
  const region = el("announcer");
  region.textContent = "";
  requestAnimationFrame(() => (region.textContent = text));
}

/** Offers `text` as a file to keep. @param {string} name @param {string} type @param {string} text */
export const download = (name, type, text) => keep(name, new Blob([text], { type: `${type};charset=utf-8` }));

/** Offers a file to keep. @param {string} name @param {Blob} content */
export function keep(name, content) {
  const url = URL.createObjectURL(content);
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Minutes and seconds as people read them: 75 -> 1:15. @param {number} seconds */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

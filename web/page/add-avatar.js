// The dialog that turns a portrait into an interviewer, with the service's report on the picture.

import { el, facts, make } from "./dom.js";
import { messageOf } from "../player/errors.js";
import { request, ServiceError } from "./service.js";
import { t } from "./texts.js";

let suggested = ""; // the name that the chosen file suggested
let added = false; // and nothing was changed since

/** @param {(id: string) => Promise<void>} onAdded is awaited */
export function connectAddDialog(onAdded) {
  const dialog = el("add");
  dialog.addEventListener("open-add", () => {
    el("add-form").reset();
    showReport(null);
    el("add-status").textContent = "";
    showFile();
    offerToPrepare();
    dialog.showModal();
  });
  el("add-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (added) dialog.close();
    else send(onAdded);
  });
  el("add-form").addEventListener("input", offerToPrepare);
  el("add-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => document.getElementById("add-open")?.focus());
  el("image").addEventListener("change", showFile);
  el("drop").addEventListener("dragover", (event) => event.preventDefault());
  el("drop").addEventListener("drop", (event) => {
    event.preventDefault();
    const files = event.dataTransfer?.files;
    if (!files?.length) return;
    el("image").files = files;
    showFile();
    offerToPrepare();
  });
}

function showFile() {
  const [file] = el("image").files ?? [];
  const preview = el("preview");
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.hidden = !file;
  if (file) preview.src = URL.createObjectURL(file);
  else preview.removeAttribute("src");
  el("file-name").textContent = file ? file.name : t("noFile");
  const name = file?.name.replace(/\.[^.]*$/, "").slice(0, 60) ?? "";
  if ([suggested, ""].includes(el("name").value)) el("name").value = name; // until somebody types another
  suggested = name;
}

/** @param {(id: string) => Promise<void>} onAdded */
async function send(onAdded) {
  const [file] = el("image").files ?? [];
  const name = el("name").value.trim();
  if (!file || !name) {
    el("add-status").textContent = t(file ? "needName" : "needFile");
    el(file ? "name" : "image").focus();
    return;
  }
  const body = new FormData();
  body.set("image", file);
  body.set("name", name);
  body.set("gender", el("gender").value);
  el("add-send").disabled = true;
  el("add-status").textContent = t("preparing");
  showReport(null);
  try {
    const avatar = await (await request("v1/avatars", { method: "POST", body })).json();
    await onAdded(avatar.id);
    el("add-status").textContent = t("added", avatar);
    el("add-send").textContent = t("useAdded", avatar);
    added = true;
    const { warnings = [], ...measured } = avatar.report ?? {};
    showReport(t("reportTitle"), warnings.length ? warnings : [t("noWarnings")], measured);
  } catch (error) {
    el("add-status").textContent = "";
    showReport(t("refused"), [(error instanceof ServiceError && error.reason) || messageOf(error)]);
  } finally {
    el("add-send").disabled = false;
  }
}

function offerToPrepare() {
  added = false;
  el("add-send").textContent = t("addSend");
}

/** Sentences as a list, and below them, folded, what was measured.
 * @param {string | null} title @param {string[]} [sentences] @param {Record<string, unknown>} [measured] */
function showReport(title, sentences = [], measured = {}) {
  const box = el("report");
  box.hidden = !title;
  if (!title) return;
  box.replaceChildren(make("h3", {}, title), make("ul", {}, ...sentences.map((sentence) => make("li", {}, sentence))));
  const terms = Object.entries(measured).filter(
    ([, value]) => value !== null && value !== "" && !(Array.isArray(value) && value.length === 0),
  );
  if (!terms.length) return;
  const rows = facts(terms.map(([key, value]) => [key.replaceAll("_", " "), plain(value)]));
  box.append(make("details", {}, make("summary", {}, t("measured")), make("dl", {}, ...rows)));
}

/** @param {unknown} value @returns {string} */
function plain(value) {
  if (typeof value === "boolean") return t(value ? "yes" : "no");
  if (typeof value === "number") return String(Math.round(value * 100) / 100);
  return Array.isArray(value) ? value.map(plain).join(", ") : String(value);
}

// Asks the service, and tells in its own words what it refused.

import { el } from "./dom.js";
import { t } from "./texts.js";

/** What went wrong, fit to be shown. `reason` is the service's own sentence where it gave one. */
export class ServiceError extends Error {
  reason = "";
  code = ""; // the service's
}

let key = ""; // typed in where the service asks for one
/** @type {Promise<boolean> | null} */ let asking = null; // once for all that wait for it

/** What `player.token` is. */
export const typedKey = () => key || null;

/** @param {RequestInit} [options] @returns {RequestInit | undefined} */
const withKey = (options) =>
  key ? { ...options, headers: { ...options?.headers, Authorization: `Bearer ${key}` } } : options;

/** Whether somebody typed a key in, other than the refused one. @param {string} refused */
async function askForKey(refused) {
  if (key !== refused) return key !== "";
  asking ??= typeIn().finally(() => (asking = null));
  return asking;
}

/** @returns {Promise<boolean>} */
function typeIn() {
  const dialog = el("ask-key");
  dialog.returnValue = el("key").value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const answered = () => {
      key = dialog.returnValue ? el("key").value.trim() : "";
      el("key").value = "";
      resolve(key !== "");
    };
    dialog.addEventListener("close", answered, { once: true });
  });
}

/** A picture of the service: an element cannot show a key itself.
 * @param {HTMLImageElement} image @param {string} url */
export async function showPicture(image, url) {
  if (!key) {
    image.src = url;
    return;
  }
  const address = URL.createObjectURL(await (await request(url)).blob());
  image.addEventListener("load", () => URL.revokeObjectURL(address), { once: true });
  image.src = address;
}

/** A response with a 2xx status; a key is asked for where one is needed. Throws ServiceError; an abort goes through as
 * it is.
 * @param {string} path @param {RequestInit} [options] */
export async function request(path, options) {
  let response;
  try {
    let shown;
    do {
      shown = key;
      response = await fetch(path, withKey(options));
    } while (response.status === 401 && (await askForKey(shown)));
  } catch (error) {
    if (options?.signal?.aborted) throw error;
    throw new ServiceError(t("e_network"), { cause: error });
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const message = body?.error?.message ?? response.statusText;
  const retry = Number(response.headers.get("Retry-After"));
  const sentences = [t("e_status", { status: response.status, message })];
  if (retry) sentences.push(t("e_retry", { seconds: retry }));
  const failure = new ServiceError(sentences.join(" "));
  failure.reason = message;
  failure.code = body?.error?.code ?? "";
  throw failure;
}

/** @param {string} path */
export const requestJson = async (path) => (await request(path)).json();

/** @param {string} id */
export const avatarUrl = (id, part = "") => `v1/avatars/${encodeURIComponent(id)}${part}`;

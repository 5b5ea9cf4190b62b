// Asks the service, and tells in its own words what it refused.

import { t } from "./texts.js";

/** What went wrong, fit to be shown. `reason` is the service's own sentence where it gave one. */
export class ServiceError extends Error {
  reason = "";
}

/** A response with a 2xx status. Throws ServiceError; an abort goes through as it is.
 * @param {string} path @param {RequestInit} [options] */
export async function request(path, options) {
  let response;
  try {
    response = await fetch(path, options);
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
  throw failure;
}

/** @param {string} path */
export const requestJson = async (path) => (await request(path)).json();

/** @param {string} id */
export const avatarUrl = (id, part = "") => `v1/avatars/${encodeURIComponent(id)}${part}`;

// Asks the service, and tells in its own words what it refused.

import { say } from "./texts.js";

/** What went wrong, fit to be shown. `reason` is the service's own sentence where it gave one. */
export class ServiceError extends Error {
  reason = "";
}

/** A response with a 2xx status. Throws ServiceError; an abort goes through as it is. */
export async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError(say("e_network"));
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const message = body?.error?.message ?? response.statusText;
  const retry = Number(response.headers.get("Retry-After"));
  const failure = new ServiceError([say("e_status", { status: response.status, message }), retry ? say("e_retry", { seconds: retry }) : ""].join(" ").trim());
  failure.reason = message;
  throw failure;
}

export const askJson = async (path, options) => (await ask(path, options)).json();

export const sendJson = (path, body) => askJson(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

export const avatarUrl = (id, part = "") => `v1/avatars/${encodeURIComponent(id)}${part}`;

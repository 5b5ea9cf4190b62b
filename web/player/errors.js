// What went wrong, for programs (`code`) and for people (`message`).

/** @import { Credentials } from "./credentials.js" */
/** @import { PlayerError as Declared } from "../avatar-player.d.ts" */

/** @implements {Declared} */
export class PlayerError extends Error {
  /** @param {string} code @param {string} message
   * @param {{ id?: string, close?: number, retry_after_s?: number, cause?: unknown }} [more] */
  constructor(code, message, more = {}) {
    super(message, { cause: more.cause });
    this.name = "PlayerError";
    this.code = code;
    if (more.id !== undefined) this.id = more.id;
    if (more.close !== undefined) this.close = more.close;
    if (more.retry_after_s !== undefined) this.retry_after_s = more.retry_after_s;
  }
}

/** @param {unknown} thrown whatever was caught */
export const messageOf = (thrown) => (thrown instanceof Error ? thrown.message : String(thrown));

/** A PlayerError as it is; anything else as one of media. @param {unknown} thrown @param {string} [id] */
export function asPlayerError(thrown, id) {
  return thrown instanceof PlayerError ? thrown : new PlayerError("media", messageOf(thrown), { cause: thrown, id });
}

/** Options of a request that posts JSON. @param {unknown} body */
export function jsonPost(body) {
  return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
}

/** A successful response, or a PlayerError with the service's own words. `begins`: as `Credentials.on` has it.
 * @param {string} url @param {RequestInit} [options] @param {Credentials} [credentials] @param {boolean} [begins] */
export async function request(url, options, credentials, begins) {
  const shown = credentials ? await credentials.on(options, begins) : options;
  let response;
  try {
    response = await fetch(url, shown);
    if (response.status === 401 && credentials?.renewable && !begins) { // the last one has become too old
      response = await fetch(url, await credentials.on(options, true));
    }
  } catch (error) {
    if (options?.signal?.aborted) throw error;
    throw new PlayerError("unreachable", `the service at ${new URL(url).origin} cannot be reached`, { cause: error });
  }
  if (response.ok) return response;
  const failure = (await response.json().catch(() => null))?.error;
  const message = failure?.message ?? `the service answered ${response.status}`;
  const retry_after_s = Number(response.headers.get("Retry-After")) || undefined;
  throw new PlayerError(failure?.code ?? "unreachable", message, { retry_after_s });
}

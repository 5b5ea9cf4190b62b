// What the page shows the service where that asks for it: a session token, from the page's own backend.

import { messageOf, PlayerError } from "./errors.js";
/** @import { Token } from "../avatar-player.d.ts" */

const PATIENCE_MS = 10_000; // for whoever makes tokens

export class Credentials {
  #source;
  /** @type {string | null} */ #last = null;

  /** @param {Token} source */
  constructor(source) {
    this.#source = source;
  }

  /** Whether another token may be had where one is refused. */
  get renewable() {
    return typeof this.#source === "function";
  }

  /** To begin something with; "" where there is none. @returns {Promise<string>} */
  async fresh() {
    const source = this.#source;
    if (typeof source !== "function") return (this.#last = source ?? "");
    /** @type {ReturnType<typeof setTimeout> | undefined} */ let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error("it did not come in time")), PATIENCE_MS);
    });
    try {
      return (this.#last = /** @type {string | null} */ (await Promise.race([source(), late])) ?? "");
    } catch (error) {
      throw new PlayerError("unauthorized", `the page got no token: ${messageOf(error)}`, { cause: error });
    } finally {
      clearTimeout(timer);
    }
  }

  /** The options of a request, with a token. `begins`: it makes something, for which a token is used up.
   * @param {RequestInit} [options] @param {boolean} [begins] @returns {Promise<RequestInit | undefined>} */
  async on(options, begins = false) {
    const token = begins ? await this.fresh() : (this.#last ?? (await this.fresh()));
    if (!token) return options;
    return { ...options, headers: { ...options?.headers, Authorization: `Bearer ${token}` } };
  }
}

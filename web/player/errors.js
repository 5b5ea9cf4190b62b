// What went wrong, for programs (`code`) and for people (`message`).

export class PlayerError extends Error {
  /** @param {string} code @param {string} message @param {{id?: string, close?: number, retry_after_s?: number, cause?: unknown}} more */
  constructor(code, message, more = {}) {
    super(message, { cause: more.cause });
    this.name = "PlayerError";
    this.code = code;
    for (const key of ["id", "close", "retry_after_s"]) if (more[key] !== undefined) this[key] = more[key];
  }
}

/** A successful response, or a PlayerError with the service's own words. */
export async function ask(url, options) {
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new PlayerError("unreachable", `the service at ${new URL(url).origin} cannot be reached`, { cause: error });
  }
  if (response.ok) return response;
  const said = (await response.json().catch(() => null))?.error;
  const retry = Number(response.headers.get("Retry-After")) || undefined;
  throw new PlayerError(said?.code ?? "unreachable", said?.message ?? `the service answered ${response.status}`, { retry_after_s: retry });
}

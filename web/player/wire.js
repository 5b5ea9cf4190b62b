// The bytes of a session: fragments with their header, and the idle loop in one response. Layouts: docs/sessions.md.

import { PlayerError, request } from "./errors.js";
/** @import { Credentials } from "./credentials.js" */
/** @import { Fragment, IdleLoop } from "./types.d.ts" */

const HEADER_BYTES = 20;
const HEADER_VERSION = 1;

/** Bits of a fragment's `flags`: the last one of its utterance; an init segment stands before it. */
export const FLAG_ENDS = 2;
export const FLAG_INIT = 4;

/** A binary message. @param {ArrayBuffer} message @returns {Fragment} */
export function parseFragment(message) {
  const view = new DataView(message);
  if (message.byteLength < HEADER_BYTES || view.getUint8(0) !== HEADER_VERSION) {
    throw new PlayerError("media", "a fragment came with a header of another version");
  }
  return {
    flags: view.getUint8(1),
    nFrames: view.getUint16(2),
    seq: view.getUint32(4),
    n: view.getUint32(8),
    firstFrame: view.getUint32(12),
    phase: view.getUint16(16),
    data: new Uint8Array(message, HEADER_BYTES),
  };
}

/** @type {Map<string, Promise<IdleLoop>>} a URL names a version: what it gives never changes */
const loops = new Map();

/** The idle loop: its index with `init` and `segments` as bytes. Fetched once a page.
 * @param {string} url @param {Credentials} credentials */
export function loadIdle(url, credentials) {
  let loading = loops.get(url);
  if (!loading) {
    loading = fetchIdle(url, credentials);
    loops.set(url, loading);
    loading.catch(() => loops.delete(url));
  }
  return loading;
}

/** @param {string} url @param {Credentials} credentials */
async function fetchIdle(url, credentials) {
  const body = await (await request(url, undefined, credentials)).arrayBuffer();
  const length = new DataView(body).getUint32(0);
  /** @type {{ codecs: string, frames: number, init: number, segments: number[] }} */
  const index = JSON.parse(new TextDecoder().decode(new Uint8Array(body, 4, length)));
  let at = 4 + length;
  /** @param {number} size */
  const part = (size) => new Uint8Array(body, (at += size) - size, size);
  const init = part(index.init);
  const segments = index.segments.map(part);
  if (at !== body.byteLength) {
    throw new PlayerError("media", `the idle loop has ${body.byteLength} bytes, its index says ${at}`);
  }
  return { ...index, init, segments };
}

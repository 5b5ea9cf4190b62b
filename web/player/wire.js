// The bytes of a session's fragments and their header. Layout: docs/sessions.md.

import { PlayerError } from "./errors.js";
/** @import { Fragment } from "./types.d.ts" */

const HEADER_BYTES = 20;
const HEADER_VERSION = 1;

/** Bits of a fragment's `flags`: the last one of its utterance; an init segment stands before it; it begins with a key
 * frame, so it can be shown without those before it. */
export const FLAG_ENDS = 2;
export const FLAG_INIT = 4;
export const FLAG_KEY = 8;

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

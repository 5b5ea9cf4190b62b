// The bytes of a session: fragments with their header, and the idle loop in one response. Layouts: docs/sessions.md.

import { ask, PlayerError } from "./errors.js";

const HEADER_BYTES = 20;

/** A binary message: {flags, nFrames, seq, n, firstFrame, phase, data}. */
export function parseFragment(message) {
  const view = new DataView(message);
  if (message.byteLength < HEADER_BYTES || view.getUint8(0) !== 1) throw new PlayerError("media", "a fragment came with a header of another version");
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

const loops = new Map(); // URL -> promise: a URL names a version, so what it gives never changes

/** The idle loop: its index with `init` and `segments` as bytes. Fetched once a page. */
export function loadIdle(url) {
  if (!loops.has(url)) {
    const loading = fetchIdle(url);
    loops.set(url, loading);
    loading.catch(() => loops.delete(url));
  }
  return loops.get(url);
}

async function fetchIdle(url) {
  const body = await (await ask(url)).arrayBuffer();
  const length = new DataView(body).getUint32(0);
  const index = JSON.parse(new TextDecoder().decode(new Uint8Array(body, 4, length)));
  let at = 4 + length;
  const [init, ...segments] = [index.init, ...index.segments].map((size) => {
    const part = new Uint8Array(body, at, size);
    at += size;
    return part;
  });
  if (at !== body.byteLength) throw new PlayerError("media", `the idle loop has ${body.byteLength} bytes, its index says ${at}`);
  return { ...index, init, segments };
}

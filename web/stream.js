// Plays one utterance: a fetch response of fragmented MP4, appended to a MediaSource as it arrives.

const BEHIND_S = 20; // what stays buffered behind the playhead when the browser runs out of room

/** The MediaSource class of this browser, or null: then only a finished video can be played. */
export function mediaSourceClass() {
  return self.ManagedMediaSource ?? self.MediaSource ?? null;
}

/**
 * Cuts a byte stream at MP4 box borders. `push` returns what became complete: first the init segment (everything up to and
 * with `moov`), then one array for each `moof` + `mdat`.
 */
export class FragmentCutter {
  #bytes = new Uint8Array(0);
  #scanned = 0; // bytes of whole boxes at the start of #bytes that still wait for the box that closes their fragment

  push(chunk) {
    const joined = new Uint8Array(this.#bytes.length + chunk.length);
    joined.set(this.#bytes);
    joined.set(chunk, this.#bytes.length);
    const fragments = [];
    let start = 0;
    let position = this.#scanned;
    const view = new DataView(joined.buffer);
    while (position + 8 <= joined.length) {
      const size = view.getUint32(position);
      if (size < 8) throw new Error(`an MP4 box of ${size} bytes`);
      if (position + size > joined.length) break;
      const type = String.fromCharCode(...joined.subarray(position + 4, position + 8));
      position += size;
      if (type === "moov" || type === "mdat") {
        fragments.push(joined.slice(start, position));
        start = position;
      }
    }
    this.#bytes = joined.slice(start);
    this.#scanned = position - start;
    return fragments;
  }

  /** True when the stream ended inside a fragment. */
  get torn() {
    return this.#bytes.length > 0;
  }
}

const once = (target, type, signal) =>
  new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const abort = () => reject(signal.reason);
    signal?.addEventListener("abort", abort, { once: true });
    target.addEventListener(
      type,
      (event) => {
        signal?.removeEventListener("abort", abort);
        resolve(event);
      },
      { once: true },
    );
  });

/** Attaches a fresh MediaSource to `video`; resolves when it can take buffers. The caller revokes nothing: detaching frees it. */
export async function attach(video, signal) {
  const Source = mediaSourceClass();
  const source = new Source();
  video.disableRemotePlayback = true; // without it a ManagedMediaSource never opens
  const url = URL.createObjectURL(source);
  const opened = once(source, "sourceopen", signal);
  video.src = url;
  try {
    await opened;
  } finally {
    URL.revokeObjectURL(url);
  }
  return source;
}

/**
 * Feeds `response` to an opened `source` until the last fragment is buffered.
 *
 * `marks.firstBytes` and `marks.received` are called once each. Returns {fragments, bytes, dried}: `dried` counts how often the
 * playhead reached the end of what had arrived. Throws the signal's reason when aborted, an Error when the stream breaks off.
 */
export async function feed({ response, source, video, mimeType, signal, marks }) {
  if (!mediaSourceClass().isTypeSupported(mimeType)) throw new Error(`this browser does not play ${mimeType}`);
  const buffer = source.addSourceBuffer(mimeType);
  const cutter = new FragmentCutter();
  const reader = response.body.getReader();
  const counts = { fragments: -1, bytes: 0, dried: 0 }; // the first thing to arrive is the init segment, which is none
  const dry = new AbortController();
  let starving = false;
  video.addEventListener(
    "waiting",
    () => {
      if (video.seeking || video.currentTime === 0) return;
      starving = true;
      counts.dried += 1;
    },
    { signal: dry.signal },
  );
  let whole = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      whole = done;
      if (done) break;
      counts.bytes += value.length;
      for (const fragment of cutter.push(value)) {
        await roomFor(source, signal);
        if (counts.fragments === 0) marks.firstBytes?.();
        await append(buffer, fragment, video, signal);
        counts.fragments += 1;
        if (starving) starving = !resume(video);
      }
    }
  } finally {
    dry.abort();
    if (!whole) reader.cancel().catch(() => {});
  }
  if (counts.fragments < 1) throw new Error("it ended before the first picture");
  if (cutter.torn) throw new Error("it ended inside a fragment");
  if (source.readyState === "open") source.endOfStream();
  marks.received?.();
  return counts;
}

// A browser that ran dry waits for ever more media before it goes on; a seek to where it stands makes it go on at once.
function resume(video) {
  const { buffered, currentTime } = video;
  const end = buffered.length ? buffered.end(buffered.length - 1) : 0;
  if (end - currentTime < 0.2) return false;
  video.currentTime = currentTime + 0.001;
  return true;
}

// A ManagedMediaSource says when it wants data; a plain one always does.
async function roomFor(source, signal) {
  if (source.streaming === false) await once(source, "startstreaming", signal);
}

async function append(buffer, bytes, video, signal) {
  for (;;) {
    signal.throwIfAborted();
    try {
      buffer.appendBuffer(bytes);
      break;
    } catch (error) {
      if (error.name !== "QuotaExceededError") throw error;
      await makeRoom(buffer, video, signal);
    }
  }
  await once(buffer, "updateend", signal);
  if (video.error) throw new Error(video.error.message || "the video could not be decoded");
}

// Forgets what was played; when there is nothing to forget yet, waits for the playhead to move.
async function makeRoom(buffer, video, signal) {
  const keepFrom = video.currentTime - BEHIND_S;
  if (keepFrom <= 0 || buffer.buffered.length === 0 || buffer.buffered.start(0) >= keepFrom) {
    await once(video, "timeupdate", signal);
    return;
  }
  buffer.remove(0, keepFrom);
  await once(buffer, "updateend", signal);
}

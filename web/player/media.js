// Which way this browser plays a stream, and a media source attached to an element.

/** @typedef {typeof MediaSource} MediaSourceClass */

const { ManagedMediaSource: managed } = /** @type {{ ManagedMediaSource?: MediaSourceClass }} */ (globalThis);

/** So far no other engine has this interface. */
export const WEBKIT = "ManagedMediaSource" in globalThis;

/** The media source of this browser, or null: then only finished videos play. @returns {MediaSourceClass | null} */
export function mediaSourceClass() {
  return managed ?? globalThis.MediaSource ?? null;
}

/** @param {string} codecs */
export const canStream = (codecs) => mediaSourceClass()?.isTypeSupported(`video/mp4; codecs="${codecs}"`) ?? false;

/** An opened media source on `video`, without an end. @param {HTMLVideoElement} video */
export async function attach(video) {
  const Source = mediaSourceClass();
  if (!Source) throw new Error("this browser has no media source");
  const source = new Source();
  video.disableRemotePlayback = true; // without it a ManagedMediaSource never opens
  const url = URL.createObjectURL(source);
  const opened = new Promise((resolve, reject) => {
    source.addEventListener("sourceopen", resolve, { once: true });
    video.addEventListener("error", () => reject(video.error), { once: true });
  });
  video.src = url;
  try {
    await opened;
  } finally {
    URL.revokeObjectURL(url);
  }
  source.duration = Infinity; // else some browsers pause by themselves where the buffer ends
  return source;
}

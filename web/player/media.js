// Which way this browser plays a stream, and a media source attached to an element.

/** So far no other engine has this interface. */
export const WEBKIT = "ManagedMediaSource" in self;

/** The media source of this browser, or null: then only finished videos play. */
export function mediaSourceClass() {
  return self.ManagedMediaSource ?? self.MediaSource ?? null;
}

export const canStream = (codecs) => mediaSourceClass()?.isTypeSupported(`video/mp4; codecs="${codecs}"`) ?? false;

/** An opened media source on `video`, without an end. */
export async function attach(video) {
  const source = new (mediaSourceClass())();
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

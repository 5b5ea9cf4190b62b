// The little of MP4 that the player must know: where the decode times of a fragment stand.

function* boxes(view, from, to) {
  for (let at = from; at + 8 <= to; ) {
    const size = view.getUint32(at);
    if (size < 8) throw new Error(`an MP4 box of ${size} bytes`);
    yield { type: view.getUint32(at + 4), start: at + 8, end: at + size };
    at += size;
  }
}

const code = (name) => [...name].reduce((sum, letter) => sum * 256 + letter.charCodeAt(0), 0);

function* inside(view, path, from = 0, to = view.byteLength) {
  const [first, ...rest] = path;
  for (const box of boxes(view, from, to)) {
    if (box.type !== code(first)) continue;
    if (rest.length) yield* inside(view, rest, box.start, box.end);
    else yield box;
  }
}

const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Ticks a second of the first track of an init segment, which is the pictures'. */
export function pictureTimescale(init) {
  const view = viewOf(init);
  const { start } = inside(view, ["moov", "trak", "mdia", "mdhd"]).next().value;
  return view.getUint32(start + (view.getUint8(start) === 1 ? 20 : 12));
}

/** A copy of one or several fragments whose pictures come so many ticks later against the sound. */
export function delayPictures(bytes, ticks) {
  const copy = bytes.slice();
  const view = viewOf(copy);
  for (const moof of inside(view, ["moof"])) {
    const { start } = inside(view, ["traf", "tfdt"], moof.start, moof.end).next().value;
    if (view.getUint8(start) === 1) view.setBigUint64(start + 4, view.getBigUint64(start + 4) + BigInt(ticks));
    else view.setUint32(start + 4, view.getUint32(start + 4) + ticks);
  }
  return copy;
}

// The little of MP4 that the player must know: where the decode times of a fragment stand.

/** @import { Bytes } from "./types.d.ts" */

const BOX_HEADER = 8; // bytes: size, type

/** @typedef {{ type: number, start: number, end: number }} Box its content lies in [start, end) */

/** @param {DataView} view @param {number} from @param {number} to @returns {Generator<Box>} */
function* boxes(view, from, to) {
  for (let at = from; at + BOX_HEADER <= to;) {
    const size = view.getUint32(at);
    if (size < BOX_HEADER) throw new Error(`an MP4 box of ${size} bytes`);
    yield { type: view.getUint32(at + 4), start: at + BOX_HEADER, end: at + size };
    at += size;
  }
}

/** @param {string} name */
const code = (name) => [...name].reduce((sum, letter) => sum * 256 + letter.charCodeAt(0), 0);

/** @param {DataView} view @param {string[]} path @returns {Generator<Box>} */
function* inside(view, path, from = 0, to = view.byteLength) {
  const [first, ...rest] = path;
  for (const box of boxes(view, from, to)) {
    if (box.type !== code(first)) continue;
    if (rest.length) yield* inside(view, rest, box.start, box.end);
    else yield box;
  }
}

/** @param {DataView} view @param {string[]} path @returns {Box} */
function firstInside(view, path, from = 0, to = view.byteLength) {
  const { value } = inside(view, path, from, to).next();
  if (!value) throw new Error(`no MP4 box ${path.join("/")}`);
  return value;
}

/** @param {Uint8Array} bytes */
const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Ticks a second of the first track of an init segment, which is the pictures'. @param {Uint8Array} init */
export function pictureTimescale(init) {
  const view = viewOf(init);
  const { start } = firstInside(view, ["moov", "trak", "mdia", "mdhd"]);
  return view.getUint32(start + (view.getUint8(start) === 1 ? 20 : 12));
}

/** A copy of one or several fragments whose pictures come so many ticks later against the sound.
 * @param {Bytes} bytes @param {number} ticks */
export function delayPictures(bytes, ticks) {
  const copy = bytes.slice();
  const view = viewOf(copy);
  for (const moof of inside(view, ["moof"])) {
    const { start } = firstInside(view, ["traf", "tfdt"], moof.start, moof.end);
    if (view.getUint8(start) === 1) view.setBigUint64(start + 4, view.getBigUint64(start + 4) + BigInt(ticks));
    else view.setUint32(start + 4, view.getUint32(start + 4) + ticks);
  }
  return copy;
}

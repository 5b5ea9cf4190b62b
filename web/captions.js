// Captions as a text track of the talking video.

const CUE = /^(?:(\d+):)?(\d+):(\d+)[.,](\d{3})\s+-->\s+(?:(\d+):)?(\d+):(\d+)[.,](\d{3})/;

const seconds = (hours, minutes, whole, milliseconds) => Number(hours ?? 0) * 3600 + Number(minutes) * 60 + Number(whole) + Number(milliseconds) / 1000;

/** The cues of a WebVTT file: [{start, end, text}], times in seconds. */
export function parseVtt(source) {
  const cues = [];
  for (const block of source.replace(/\r\n?/g, "\n").split(/\n{2,}/)) {
    const lines = block.split("\n");
    const at = lines.findIndex((line) => CUE.test(line));
    if (at < 0) continue;
    const [, ...t] = CUE.exec(lines[at]);
    const text = lines.slice(at + 1).join("\n").trim();
    if (text) cues.push({ start: seconds(...t.slice(0, 4)), end: seconds(...t.slice(4, 8)), text });
  }
  return cues;
}

export class Captions {
  #track;
  #shown;

  constructor(video, { shown }) {
    this.#track = video.addTextTrack("captions", "Captions", "");
    this.shown = shown;
  }

  get shown() {
    return this.#shown;
  }

  set shown(shown) {
    this.#shown = shown;
    this.#track.mode = shown ? "showing" : "hidden";
  }

  clear() {
    for (const cue of [...(this.#track.cues ?? [])]) this.#track.removeCue(cue);
  }

  /** Replaces the cues by those at `url`, which answers once the whole utterance's words are known. */
  async load(url, signal) {
    const response = await fetch(url, { signal });
    if (response.status !== 200) return;
    const cues = parseVtt(await response.text());
    this.clear();
    for (const { start, end, text } of cues) {
      const cue = new VTTCue(start, end, text);
      cue.line = -1 - text.split("\n").length; // one line above the lower edge
      this.#track.addCue(cue);
    }
  }
}

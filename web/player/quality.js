// Quality of experience: counted here, told to the service now and then.

const COUNTS = ["dry_outs", "dry_ms", "late_segments", "dropped_frames", "painted_frames", "reconnects"];
const LIST = 64; // the service takes so many times in one message

export class Quality {
  #video;
  #told = {};
  #seen = { dropped: 0, total: 0 };
  #times = { first_frame_ms: [], interrupt_ms: [] };
  counts = Object.fromEntries(COUNTS.map((name) => [name, 0]));

  constructor(video) {
    this.#video = video;
    this.#told = { ...this.counts };
  }

  add(name, value = 1) {
    this.counts[name] += value;
  }

  time(name, ms) {
    if (this.#times[name].length < LIST) this.#times[name].push(Math.round(ms));
  }

  /** Takes in what the video element counted. Hidden pages paint nothing: their frames are not lost. */
  look() {
    const { droppedVideoFrames: dropped = 0, totalVideoFrames: total = 0 } = this.#video.getVideoPlaybackQuality?.() ?? {};
    if (!document.hidden && total >= this.#seen.total) {
      const lost = Math.max(0, dropped - this.#seen.dropped);
      this.counts.dropped_frames += lost;
      this.counts.painted_frames += Math.max(0, total - this.#seen.total - lost);
    }
    this.#seen = { dropped, total };
  }

  /** A message `stats` with what is new, or null. */
  message() {
    this.look();
    const news = Object.fromEntries(COUNTS.map((name) => [name, Math.round(this.counts[name] - this.#told[name])]).filter(([, value]) => value > 0));
    for (const [name, list] of Object.entries(this.#times)) if (list.length) news[name] = list;
    if (Object.keys(news).length === 0) return null;
    this.#told = { ...this.counts };
    this.#times = { first_frame_ms: [], interrupt_ms: [] };
    return { type: "stats", ...news };
  }
}

// What benchmarks/player.py does inside the page. Loaded before the player.

// As in web/player/slots.js.
const FPS = 25;
const SEGMENT_FRAMES = 8;

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const until = async (test) => {
  while (!test()) await wait(5);
};
const gate = { hold: false, held: [] };

const Plain = window.WebSocket;
window.WebSocket = class extends Plain {
  set onmessage(listener) {
    super.onmessage = (event) => (gate.hold ? gate.held.push(() => listener(event)) : listener(event));
  }
};

const frames = []; // what was painted, and when
const events = [];
let tap = null; // what was heard, and when

const TAP = `registerProcessor("tap", class extends AudioWorkletProcessor {
  constructor() {
    super();
    Object.assign(this, { last: 0, quiet: 1e9, loudAt: -1, step: 0, blocks: 0 });
    this.port.onmessage = () => { this.step = 0; this.loudAt = -1; };
  }
  process([input]) {
    const samples = input[0];
    for (let i = 0; i < (samples?.length ?? 0); i += 1) {
      const level = Math.abs(samples[i]);
      this.step = Math.max(this.step, Math.abs(samples[i] - this.last));
      this.last = samples[i];
      if (level > 0.002) this.loudAt = currentTime + i / sampleRate;
      if (level > 0.15 && this.quiet > 0.2 * sampleRate) {
        this.port.postMessage({ click: currentTime + i / sampleRate });
      }
      this.quiet = level > 0.15 ? 0 : this.quiet + 1;
    }
    if ((this.blocks += 1) % 2 === 0) this.port.postMessage({ now: currentTime, loudAt: this.loudAt, step: this.step });
    return true;
  }
});`;

async function listenIn() {
  const { context, output } = player.internals.graph;
  await context.audioWorklet.addModule(URL.createObjectURL(new Blob([TAP], { type: "text/javascript" })));
  const node = new AudioWorkletNode(context, "tap", { numberOfOutputs: 0 });
  output.connect(node);
  tap = { clicks: [], loudAt: -1, step: 0, reset: () => node.port.postMessage(0), context };
  window.tap = tap; // for a look from outside
  node.port.onmessage = ({ data }) => ("click" in data ? tap.clicks.push(data.click) : Object.assign(tap, data));
}

// A time of the context, as it is heard, on the page's clock.
function heardAt(contextTime) {
  const { contextTime: c, performanceTime: p } = tap.context.getOutputTimestamp();
  return p + (contextTime - c) * 1000;
}

window.begin = async () => {
  window.player = document.querySelector("avatar-player");
  const { video } = player.internals;
  for (const type of ["waiting", "seeking"]) {
    video.addEventListener(type, () => events.push({ type, ours: video.seeking, at: performance.now() }));
  }
  const seen = (now, { mediaTime, presentedFrames, expectedDisplayTime }) => {
    const content = player.internals.timeline?.contentAt(mediaTime);
    const frame = { at: now, shown: expectedDisplayTime, mediaTime, presentedFrames, speech: Boolean(content?.run) };
    frames.push(frame);
    look?.(frame);
    if (frames.length > 20_000) frames.splice(0, 10_000);
    video.requestVideoFrameCallback(seen);
  };
  video.requestVideoFrameCallback(seen);
  const clicked = new Promise((resolve) => (document.querySelector("button").onclick = () => resolve(player.unlock())));
  await player.connect();
  window.unlocked = clicked.then(listenIn);
};
let look = null;

window.speak = async (what) => {
  const { ended } = player.speak(what);
  const { outcome } = await ended;
  return { outcome };
};

window.startOnly = async (text, pause) => {
  const { timeline } = player.internals;
  const utterance = player.speak(text);
  const calledAt = performance.now();
  await until(() => timeline.runs.at(-1)?.utterance === utterance && timeline.runs.at(-1).next >= SEGMENT_FRAMES);
  const arrived_ms = performance.now() - calledAt;
  const { first_frame_ms, cached, timings_ms } = await utterance.started;
  player.interrupt();
  await wait(pause);
  return { first_frame_ms, cached, timings_ms, arrived_ms };
};

window.seam = async (passages) => {
  const { video, timeline } = player.internals;
  // Scaled down only once both lie on one another: a browser scales a video otherwise than a canvas.
  const whole = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  const screen = whole.getContext("2d", { alpha: false });
  const drawing = new OffscreenCanvas(128, 128).getContext("2d", { willReadFrequently: true });
  const luma = { idle: [], idle_boundary: [], into_speech: [], into_speech_covered: [], out_of_speech: [] };
  let before = null;
  look = (frame) => {
    screen.globalAlpha = 1;
    screen.drawImage(video, 0, 0);
    const { canvas: over, opacity } = player.internals.overlay; // as the viewer sees it
    screen.globalAlpha = opacity;
    if (opacity > 0) screen.drawImage(over, 0, 0);
    drawing.drawImage(whole, 0, 0, 128, 128);
    const { data } = drawing.getImageData(0, 0, 128, 128);
    const now = new Float32Array(128 * 128);
    for (let i = 0; i < now.length; i += 1) {
      now[i] = 0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2];
    }
    const follows =
      before &&
      (Math.abs(frame.mediaTime - before.frame.mediaTime - 1 / FPS) < 0.005 ||
        opacity > 0 ||
        frame.speech !== before.frame.speech);
    if (follows) {
      let sum = 0;
      for (let i = 0; i < now.length; i += 1) sum += Math.abs(now[i] - before.now[i]);
      const boundary = Math.round(frame.mediaTime * FPS) % SEGMENT_FRAMES === 0;
      const enters = frame.speech && (!before.frame.speech || opacity > 0); // while the picture before fades, too
      const joined = opacity > 0 || before.opacity > 0 ? "into_speech_covered" : "into_speech"; // by the picture before
      const kind =
        enters || before.opacity > 0
          ? joined
          : frame.speech
            ? null
            : before.frame.speech
              ? "out_of_speech"
              : boundary
                ? "idle_boundary"
                : "idle";
      if (kind) luma[kind].push(sum / now.length);
    }
    before = { frame, now, opacity };
  };
  const quality = () => video.getVideoPlaybackQuality().droppedVideoFrames;
  frames.length = events.length = 0;
  const dropped = quality();
  const ranges = new Set();
  const timer = setInterval(() => ranges.add(video.buffered.length), 20);
  let finished = 0;
  for (let passage = 0; passage < passages; passage += 1) {
    if ((await speak(`Number ${passage}.`)).outcome === "finished") finished += 1;
    await wait(100 + 53 * (passage % 7));
  }
  clearInterval(timer);
  look = null;
  const steps = frames.slice(1).map((frame, i) => frame.mediaTime - frames[i].mediaTime);
  return {
    passages,
    finished,
    ranges: Math.max(...ranges),
    frames: frames.length,
    dropped: quality() - dropped,
    went_back: steps.filter((step) => step < -0.001).length,
    repeated: steps.filter((step) => Math.abs(step) <= 0.001).length,
    waiting: events.filter(({ type, ours }) => type === "waiting" && !ours).length,
    seeks: events.filter(({ type }) => type === "seeking").length,
    late_segments: player.counters.late_segments,
    buffered_s: timeline.facts.ahead,
    luma,
  };
};

window.dry = async (text, round) => {
  let told = 0;
  const count = () => (told += 1);
  player.addEventListener("word", count);
  const utterance = player.speak(text);
  await utterance.started;
  await wait(300 + 40 * round);
  gate.hold = true;
  await until(() => player.internals.timeline.position() === null);
  await wait(400 + 90 * round);
  const released = performance.now();
  gate.hold = false;
  for (const give of gate.held.splice(0)) give();
  await until(() => frames.at(-1).speech && frames.at(-1).at > released);
  const recovery_ms = frames.find(({ at, speech }) => speech && at > released).at - released;
  const around = frames.filter(({ at }) => at > released - 1500 && at < released + 500);
  const longest_still_ms = Math.max(...around.slice(1).map(({ at }, i) => at - around[i].at));
  const { outcome } = await utterance.ended;
  player.removeEventListener("word", count);
  return { recovery_ms, longest_still_ms, outcome, words_lost: text.split(/\s+/).length - told };
};

window.sync = async (bytes, times) => {
  tap.clicks.length = frames.length = 0;
  const utterance = player.speak({ audio: new Uint8Array(bytes) });
  await utterance.started;
  const { timeline } = player.internals;
  await until(() => timeline.position());
  const origin = timeline.origin(timeline.position().run);
  await utterance.ended;
  await wait(200);
  const offsets = [];
  for (const click of tap.clicks) {
    const heard = heardAt(click);
    // The click whose media time the pictures had at about that moment.
    const expected = times
      .map((time) => origin + time)
      .map((time) => {
        const frame = frames.findLast(({ mediaTime }) => mediaTime <= time);
        return frame && frame.shown + (time - frame.mediaTime) * 1000;
      });
    const nearest = expected
      .filter(Boolean)
      .reduce((best, at) => (Math.abs(at - heard) < Math.abs(best - heard) ? at : best), Infinity);
    if (Math.abs(nearest - heard) < 200) offsets.push(heard - nearest);
  }
  return offsets;
};

window.captionLateness = async (text) => {
  const late = [];
  const note = ({ detail }) => {
    const position = player.internals.timeline.position();
    if (position) late.push(position.ms - detail.start_ms);
  };
  player.addEventListener("word", note);
  await speak(text);
  player.removeEventListener("word", note);
  return late;
};

window.cut = async (text, pause) => {
  const utterance = player.speak(text);
  await utterance.started;
  await wait(300 + pause);
  tap.reset();
  await until(() => tap.loudAt > 0);
  await wait(60);
  const { step } = tap;
  const cutS = tap.context.currentTime;
  const at = performance.now();
  frames.length = 0;
  player.interrupt();
  tap.reset();
  await until(() => frames.some(({ speech }) => !speech));
  const idle_painted_ms = frames.find(({ speech }) => !speech).at - at;
  let service_idle_ms = 0;
  for (;;) {
    const { live_utterances } = await (await fetch("/health")).json();
    service_idle_ms = performance.now() - at;
    if (live_utterances === 0) break;
  }
  await wait(Math.max(0, 120 - (performance.now() - at)));
  return { silent_ms: Math.max(0, (tap.loudAt - cutS) * 1000), idle_painted_ms, service_idle_ms, step, tick: tap.step };
};

window.race = (rate) => {
  player.internals.video.playbackRate = rate;
  events.length = 0;
  window.mostRanges = 0;
  clearInterval(window.watching);
  window.watching = setInterval(
    () => (window.mostRanges = Math.max(mostRanges, player.internals.video.buffered.length)),
    5,
  );
};

window.footprint = () => {
  const { buffered } = player.internals.video;
  return {
    heap_mb: performance.memory.usedJSHeapSize / 2 ** 20,
    buffered_s: Math.round(buffered.end(buffered.length - 1) - buffered.start(0)),
    ranges: mostRanges,
    waiting: events.filter(({ type, ours }) => type === "waiting" && !ours).length,
  };
};

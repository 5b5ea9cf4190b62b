// Runs before the player: holds messages back, cuts connections, fills the buffer up, and writes down what happens.

// holdFrom: messages are held from the first fragment on that begins at this frame or later. got: JSON messages that
// reached the player. pictures: what came as a fragment, by the bytes of its pictures and sound. appended: what was
// given to the browser, and where it lies.
window.gate = {
  hold: false, holdFrom: null, held: [], sockets: [], sent: [], got: [], rewrite: null, full: 0,
  pictures: new Map(), appended: [],
};

const boxes = (bytes) => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found = [];
  for (let at = 0; at < bytes.length; at += view.getUint32(at)) {
    found.push({ type: view.getUint32(at + 4), body: bytes.subarray(at + 8, at + view.getUint32(at)) });
  }
  return found;
};
// Ticks of the pictures (1/12,800 s) and of the sound (1/48,000 s), from the `traf`s of a `moof`.
const decodeTimes = (moof) => {
  const times = [];
  for (const { type, body } of boxes(moof)) {
    if (type !== 0x74726166) continue;
    const { body: tfdt } = boxes(body).find((box) => box.type === 0x74666474);
    const view = new DataView(tfdt.buffer, tfdt.byteOffset, tfdt.byteLength);
    times.push(tfdt[0] === 1 ? Number(view.getBigUint64(4)) : view.getUint32(4));
  }
  return { pictures: times[0], sound: times[1] };
};
const MDAT = 0x6d646174;
const hash = (bytes) => {
  let sum = 2166136261;
  for (const byte of bytes) sum = Math.imul(sum ^ byte, 16777619);
  return `${sum >>> 0}:${bytes.length}`;
};
const hashOf = (bytes) => hash(boxes(bytes).find(({ type }) => type === MDAT)?.body ?? []);

window.Untouched = window.WebSocket;
window.WebSocket = class extends Untouched {
  constructor(...args) {
    super(...args);
    gate.sockets.push(this);
  }

  set onmessage(listener) {
    super.onmessage = (event) => {
      const said = typeof event.data === "string" ? JSON.parse(event.data) : null;
      if (said?.type === "ready") gate.ready = said;
      if (!said) {
        const head = new DataView(event.data);
        const fragment = { n: head.getUint32(8), frame: head.getUint32(12) };
        gate.pictures.set(hashOf(new Uint8Array(event.data, 20)), fragment);
        if (gate.holdFrom !== null && fragment.frame >= gate.holdFrom) gate.hold = true;
      }
      const give = () => {
        if (said) gate.got.push(said);
        listener(event);
      };
      if (gate.hold) gate.held.push(give);
      else give();
    };
  }

  send(message) {
    const said = typeof message === "string" ? (gate.rewrite?.(message) ?? message) : message;
    if (typeof said === "string") gate.sent.push(JSON.parse(said));
    super.send(said);
  }
};
window.release = () => {
  gate.hold = false;
  gate.holdFrom = null;
  for (const give of gate.held.splice(0)) give();
};

const append = self.SourceBuffer?.prototype.appendBuffer;
if (append) {
  SourceBuffer.prototype.appendBuffer = function (bytes) {
    if (gate.full > 0) {
      gate.full -= 1;
      throw new DOMException("SourceBuffer is full", "QuotaExceededError");
    }
    append.call(this, bytes);
    const [first] = boxes(bytes);
    if (first.type === 0x6d6f6f66) {
      gate.appended.push({
        offset: this.timestampOffset,
        ...decodeTimes(first.body),
        ...(gate.pictures.get(hashOf(bytes)) ?? { n: null, frame: null }),
      });
    }
  };
}

window.watch = (player) => {
  window.player = player;
  window.log = [];
  window.frames = [];
  const states = ["ready", "started", "word", "caption", "ended", "interrupted", "statechange"];
  for (const type of [...states, "voice", "notice", "error"]) {
    player.addEventListener(type, ({ detail }) =>
      log.push({
        type,
        at: performance.now(),
        ...(detail instanceof Error ? { code: detail.code, message: detail.message, close: detail.close } : detail),
      }),
    );
  }
  const { video } = player.internals;
  for (const type of ["waiting", "seeking"]) {
    video.addEventListener(type, () =>
      log.push({ type: `video:${type}`, seeking: video.seeking, time: video.currentTime }),
    );
  }
  const seen = (at, { mediaTime, presentedFrames }) => {
    const content = player.internals.timeline?.contentAt(mediaTime);
    frames.push({
      at,
      mediaTime,
      presentedFrames,
      speech: Boolean(content?.run),
      phase: content?.phase,
      frame: content?.frame,
      covered: player.internals.overlay.opacity > 0,
    });
    video.requestVideoFrameCallback(seen);
  };
  video.requestVideoFrameCallback?.(seen);
};
window.said = (type) => log.filter((entry) => entry.type === type);

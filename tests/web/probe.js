// Runs before the player: holds messages back, cuts connections, fills the buffer up, and writes down what happens.

window.gate = { hold: false, held: [], sockets: [], sent: [], rewrite: null, full: 0 };

window.Untouched = window.WebSocket;
window.WebSocket = class extends Untouched {
  constructor(...args) {
    super(...args);
    gate.sockets.push(this);
  }

  set onmessage(listener) {
    super.onmessage = (event) => {
      if (typeof event.data === "string" && event.data.includes('"ready"')) gate.ready = JSON.parse(event.data);
      if (gate.hold) gate.held.push(() => listener(event));
      else listener(event);
    };
  }

  send(message) {
    const said = typeof message === "string" ? gate.rewrite?.(message) ?? message : message;
    if (typeof said === "string") gate.sent.push(JSON.parse(said));
    super.send(said);
  }
};
window.release = () => {
  gate.hold = false;
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
  };
}

window.watch = (player) => {
  window.player = player;
  window.log = [];
  window.frames = [];
  const types = ["ready", "started", "word", "caption", "ended", "interrupted", "statechange", "voice", "notice", "error"];
  for (const type of types) {
    player.addEventListener(type, ({ detail }) => log.push({ type, at: performance.now(), ...(detail instanceof Error ? { code: detail.code, message: detail.message, close: detail.close } : detail) }));
  }
  const { video } = player.internals;
  for (const type of ["waiting", "seeking"]) video.addEventListener(type, () => log.push({ type: `video:${type}`, seeking: video.seeking, time: video.currentTime }));
  const seen = (at, { mediaTime, presentedFrames }) => {
    const content = player.internals.timeline?.contentAt(mediaTime);
    frames.push({ at, mediaTime, presentedFrames, speech: Boolean(content?.run), phase: content?.phase, frame: content?.frame });
    video.requestVideoFrameCallback(seen);
  };
  video.requestVideoFrameCallback?.(seen);
};
window.said = (type) => log.filter((entry) => entry.type === type);

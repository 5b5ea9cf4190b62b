// What a person would see and hear of a player that was unlocked, from `perceive(player)` until `perceived()`.

const EDGE = 64; // of what is looked at, pixels
const PART = 8; // of which one is looked at as a whole: lips fill some of them, wherever a face has them
let seen = null;

/** The mean change of the part that changed most, levels. */
function change(data, before) {
  const parts = new Float64Array((EDGE / PART) ** 2);
  for (let i = 0; i < data.length; i += 1) {
    const at = i >> 2; // RGBA
    const row = Math.floor(at / EDGE / PART);
    const column = Math.floor((at % EDGE) / PART);
    parts[(row * EDGE) / PART + column] += Math.abs(data[i] - before[i]);
  }
  return Math.max(...parts) / (PART * PART * 4);
}

window.perceive = (player) => {
  const { video, graph } = player.internals;
  const ear = graph?.context.createAnalyser(); // none where a browser plays past an AudioContext
  if (ear) graph.output.connect(ear);
  const samples = new Float32Array(ear?.fftSize ?? 0);
  const canvas = new OffscreenCanvas(EDGE, EDGE);
  const eye = canvas.getContext("2d", { willReadFrequently: true });
  let before = null;
  seen = { loudest: 0, pictures: 0, changes: 0, width: video.videoWidth };
  const look = () => {
    ear?.getFloatTimeDomainData(samples);
    for (const sample of samples) seen.loudest = Math.max(seen.loudest, Math.abs(sample));
    // The lower half of the face.
    eye.drawImage(video, video.videoWidth / 4, video.videoHeight / 2, video.videoWidth / 2, video.videoHeight / 2, 0, 0, EDGE, EDGE);
    const { data } = eye.getImageData(0, 0, EDGE, EDGE);
    if (before) {
      const changed = change(data, before);
      seen.pictures += changed > 0;
      seen.changes = Math.max(seen.changes, changed);
    }
    before = data;
  };
  seen.timer = setInterval(look, 40);
};
/** loudest: sample, of 1. pictures: how many differed from the one before. changes: levels, the largest of a part from one
 * to the next. width: of the video, pixels. */
window.perceivedSoFar = () => {
  const { timer, ...all } = seen;
  return all;
};
window.perceived = () => {
  clearInterval(seen.timer);
  return perceivedSoFar();
};

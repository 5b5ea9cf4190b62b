// What a person would see and hear of a player that was unlocked, from `perceive(player)` until `perceived()`.

let seen = null;
window.perceive = (player) => {
  const { video, graph } = player.internals;
  const ear = graph.context.createAnalyser();
  graph.output.connect(ear);
  const samples = new Float32Array(ear.fftSize);
  const canvas = new OffscreenCanvas(64, 64);
  const eye = canvas.getContext("2d", { willReadFrequently: true });
  let before = null;
  seen = { loudest: 0, pictures: 0, changes: 0, width: video.videoWidth };
  const look = () => {
    ear.getFloatTimeDomainData(samples);
    for (const sample of samples) seen.loudest = Math.max(seen.loudest, Math.abs(sample));
    // The lower half of the face.
    eye.drawImage(video, video.videoWidth / 4, video.videoHeight / 2, video.videoWidth / 2, video.videoHeight / 2, 0, 0, 64, 64);
    const { data } = eye.getImageData(0, 0, 64, 64);
    if (before) {
      let change = 0;
      for (let i = 0; i < data.length; i += 1) change += Math.abs(data[i] - before[i]);
      seen.pictures += change > 0;
      seen.changes = Math.max(seen.changes, change / data.length);
    }
    before = data;
  };
  seen.timer = setInterval(look, 40);
};
/** loudest: sample, of 1. pictures: how many differed from the one before. changes: levels, the largest mean change from
 * one to the next. width: of the video, pixels. */
window.perceived = () => {
  clearInterval(seen.timer);
  const { timer, ...all } = seen;
  return all;
};

#!/usr/bin/env bash
# libx264 in PyAV 18.1.0's wheel, constant rate factor: `ipratio` makes every key frame finer but the first of a stream.
#
# `ipratio` says by how much the quantiser of key frames is finer than that of the pictures predicted from them, so one expects
# it to hold for all of them. It is taken against the pictures before, and the first key frame has none: it keeps the quantiser
# of the rate factor, whatever the ratio. Where each stream is short, and its first picture must not differ from what was shown
# before, the option does nothing. `zones=0,0,q=...` sets that picture's quantiser.
#
# Seen: bytes of the first and of the second key frame, by ratio, and with a zone. Exits 1 when that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check av==18.1.0 numpy==2.4.6
cat >"$work/try.py" <<'PY'
from fractions import Fraction
import av, numpy as np

rng = np.random.default_rng(1)
scene = np.cumsum(np.cumsum(rng.normal(0, 1, (320, 320)), 0), 1)
scene = ((scene - scene.min()) / np.ptp(scene) * 200 + 20 + rng.normal(0, 4, scene.shape)).clip(0, 255).astype(np.uint8)

def keys(params):
    codec = av.CodecContext.create("libx264", "w")
    codec.width = codec.height = 256
    codec.pix_fmt, codec.time_base, codec.thread_count = "yuv420p", Fraction(1, 25), 1
    codec.options = {"preset": "superfast", "tune": "zerolatency", "crf": "20", "g": "8", "x264-params": f"scenecut=0:qcomp=1:aq-mode=0:{params}"}
    sizes = []
    for i in range(16):
        picture = np.full((384, 256), 128, np.uint8)
        picture[:256] = scene[i : i + 256, i : i + 256]
        frame = av.VideoFrame.from_ndarray(picture, "yuv420p")
        frame.pts, frame.time_base = i, Fraction(1, 25)
        sizes += [packet.size for packet in codec.encode(frame) if packet.is_keyframe]
    return sizes

seen = {params: keys(params) for params in ("ipratio=1", "ipratio=1.4", "ipratio=2", "ipratio=1.4:zones=0,0,q=17")}
for params, sizes in seen.items():
    print(f"{params:28} first {sizes[0]:6} bytes, second {sizes[1]:6}")
one, more, most, zone = seen.values()
first_alike = max(one[0], more[0], most[0]) - min(one[0], more[0], most[0]) < 0.02 * one[0]
raise SystemExit(0 if first_alike and more[1] > 1.1 * one[1] and most[1] > 1.15 * more[1] and zone[0] > 1.1 * one[0] else 1)
PY
"$work/venv/bin/python" "$work/try.py"

#!/usr/bin/env bash
# libx264 in PyAV 18.1.0's wheel: the parameter sets of two streams that differ in their rate factor alone are not the same.
#
# A rate factor is a matter of the encoder, and a decoder is told each picture's quantiser in the picture; so one expects streams of
# one size, profile and set of options to share their headers, and an init segment of fragmented MP4 to fit any of them. It does not:
# the encoder writes the quantiser that it begins with into the picture parameter set, where it saves some bits, and pictures of a
# stream with another rate factor are decoded with a wrong quantiser behind it, without an error. `stitchable=1` leaves it out.
#
# Seen: whether the parameter sets of four rate factors are equal, without and with it; and how far a picture is off that is decoded
# with the other stream's. Exits 1 when that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check av==18.1.0 numpy==2.4.6
cat >"$work/try.py" <<'PY'
from fractions import Fraction
import av, numpy as np
from av.codec.context import Flags

rng = np.random.default_rng(1)
scene = np.cumsum(np.cumsum(rng.normal(0, 1, (256, 256)), 0), 1)
picture = np.full((384, 256), 128, np.uint8)
picture[:256] = (scene - scene.min()) / np.ptp(scene) * 200 + 20

def stream(crf, params):
    codec = av.CodecContext.create("libx264", "w")
    codec.width = codec.height = 256
    codec.pix_fmt, codec.time_base, codec.thread_count = "yuv420p", Fraction(1, 25), 1
    codec.flags |= Flags.global_header
    codec.options = {"preset": "superfast", "tune": "zerolatency", "crf": str(crf), "x264-params": params}
    frame = av.VideoFrame.from_ndarray(picture, "yuv420p")
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    packets = codec.encode(frame) + codec.encode(None)
    return bytes(codec.extradata), bytes(packets[0])

def off(headers, data):
    codec = av.CodecContext.create("h264", "r")
    codec.extradata = headers
    shown = [f for p in (av.Packet(data), None) for f in codec.decode(p)][0].to_ndarray()
    return float(np.abs(shown[:256].astype(int) - picture[:256]).mean())

same = {}
for params in ("scenecut=0", "scenecut=0:stitchable=1"):
    made = {crf: stream(crf, params) for crf in (18, 22, 26, 30)}
    # The encoder's own account of its options, a message that no decoder reads, names the rate factor: only what is before it counts.
    sets = {headers[: headers.index(b"\x00\x00\x01\x06")] if b"\x00\x00\x01\x06" in headers else headers for headers, _ in made.values()}
    same[params] = len(sets)
    right, wrong = off(made[22][0], made[22][1]), off(made[30][0], made[22][1])
    print(f"{params:26} {len(sets)} parameter sets of 4 rate factors; off by {right:.2f} grey levels with its own, {wrong:.2f} with another's")
    same[params] = len(sets), right, wrong
without, with_it = same.values()
raise SystemExit(0 if without[0] == 4 and without[2] > 5 * without[1] and with_it[0] == 1 and with_it[2] == with_it[1] else 1)
PY
"$work/venv/bin/python" "$work/try.py"

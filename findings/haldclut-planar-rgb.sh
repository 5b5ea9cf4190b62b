#!/usr/bin/env bash
# FFmpeg 8's haldclut, in PyAV 18.1.0's wheel: with planar RGB it looks colours up as if the table's channels were in another order.
#
# `haldclut` accepts packed and planar RGB for its two inputs, so one expects the same colours of either, and takes the planar
# format that high bit depths mostly come in. With a table that changes nothing, packed pictures come out as they went in. Planar
# ones come out with other colours, with no warning. Whoever looks colours up must convert to a packed format before.
#
# Seen: largest difference between what went in and what came out, levels of 255, for each format that both inputs have.
# Exits 1 when that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check av==18.1.0 numpy==2.4.6
cat >"$work/try.py" <<'PY'
from fractions import Fraction
import av, av.filter, numpy as np

STEPS = 36  # 6 ** 2 a channel: a Hald picture of level 6
ramp = np.linspace(0, 255, STEPS)
blue, green, red = np.meshgrid(ramp, ramp, ramp, indexing="ij")  # red changes fastest
identity = np.round(np.stack([red, green, blue], -1)).astype(np.uint8).reshape(216, 216, 3)
asked = np.zeros((64, 64, 3), np.uint8)
asked[:32, :32], asked[:32, 32:], asked[32:, :32], asked[32:, 32:] = (200, 30, 60), (20, 180, 90), (40, 70, 220), (128, 128, 128)

def through(pixels):
    graph, common = av.filter.Graph(), "time_base=1/1000:pixel_aspect=1/1:pix_fmt=rgb24"
    picture = graph.add("buffer", f"video_size=64x64:{common}")
    table = graph.add("buffer", f"video_size=216x216:{common}")
    first, second = (graph.add("format", f"pix_fmts={pixels}") for _ in range(2))
    look, plain, sink = graph.add("haldclut", "clut=first"), graph.add("format", "pix_fmts=rgb24"), graph.add("buffersink")
    picture.link_to(first), table.link_to(second)
    first.link_to(look, 0, 0), second.link_to(look, 0, 1)
    look.link_to(plain), plain.link_to(sink)
    graph.configure()
    for source, array in ((table, identity), (picture, asked)):
        frame = av.VideoFrame.from_ndarray(array, "rgb24")
        frame.pts, frame.time_base = 0, Fraction(1, 1000)
        source.push(frame)
    table.push(None)
    return int(np.abs(graph.pull().to_ndarray(format="rgb24").astype(int) - asked).max())

off = {pixels: through(pixels) for pixels in ("rgb24", "bgr24", "rgb48le", "gbrp", "gbrp10le", "gbrp16le")}
print("av", av.__version__, off)
packed, planar = [off[p] for p in ("rgb24", "bgr24", "rgb48le")], [off[p] for p in ("gbrp", "gbrp10le", "gbrp16le")]
raise SystemExit(0 if max(packed) <= 3 and min(planar) > 30 else 1)
PY
"$work/venv/bin/python" "$work/try.py"

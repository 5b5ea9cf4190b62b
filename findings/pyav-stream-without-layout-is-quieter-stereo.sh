#!/usr/bin/env bash
# PyAV 18.1.0: a mono frame that is encoded by a stream whose layout nobody set comes out as stereo, 3 dB quieter on either side.
#
# `add_stream("pcm_s16le", rate=...)` takes frames of any layout, and one expects it to take that of the first frame, or to
# refuse. It is stereo, and the resampler in between spreads a mono frame over both sides at equal power: each sample is
# divided by the square root of two. Who averages the sides again has a recording 3 dB below what went in. With
# `layout="mono"` the samples come out as they went in.
#
# Seen: channels and the peak of a sine of 0.5, without a layout and with one. Exits 1 when that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check av==18.1.0 numpy==2.4.6
cat >"$work/try.py" <<'PY'
import io
import av, numpy as np

RATE = 24_000
sine = (0.5 * np.sin(2 * np.pi * 220 * np.arange(RATE) / RATE)).astype(np.float32)

def came(**layout):
    file = io.BytesIO()
    with av.open(file, "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, **layout)
        frame = av.AudioFrame.from_ndarray(sine[None], format="flt", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    file.seek(0)
    with av.open(file) as container:
        sides = np.concatenate([f.to_ndarray().reshape(-1, f.layout.nb_channels) for f in container.decode(audio=0)])
    return sides.shape[1], float(np.abs(sides).max() / 32_768)

unset, mono = came(), came(layout="mono")
print(f"av {av.__version__}: no layout {unset[0]} channels, peak {unset[1]:.4f}; mono {mono[0]} channel, peak {mono[1]:.4f}")
quieter = abs(unset[1] * 2**0.5 - 0.5) < 0.001
raise SystemExit(0 if unset[0] == 2 and quieter and mono[0] == 1 and abs(mono[1] - 0.5) < 0.001 else 1)
PY
"$work/venv/bin/python" "$work/try.py"

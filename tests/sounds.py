"""Speech as browsers and phones send it, made with the same FFmpeg."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

CODECS = {"mp3": "libmp3lame", "wav": "pcm_s16le", "m4a": "aac", "ogg": "libopus", "webm": "libopus"}
FORMATS = {"m4a": "mp4"}


def encoded(pcm: NDArray[np.float32], kind: str, rate: int = 24_000) -> bytes:
    """`pcm` float32 (n,) at `rate` in the container and codec of `kind`."""
    out = io.BytesIO()
    with av.open(out, "w", format=FORMATS.get(kind, kind)) as container:
        stream: Any = container.add_stream(CODECS[kind], rate=48_000 if CODECS[kind] == "libopus" else rate)
        frame = av.AudioFrame.from_ndarray(pcm[None], format="flt", layout="mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return out.getvalue()

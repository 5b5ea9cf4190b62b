"""Clips for the tests of reading them: frames that carry their number, at any rate, turned, odd or broken."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from museserve.media import hdr
from museserve.messages import ByteArray


def film(
    frames: Iterable[ByteArray],
    *,
    fps: float = 25,
    times_ms: Sequence[int] | None = None,
    turned: int = 0,
    codec: str = "libx264",
    kind: str = "mp4",
    sound_s: float = 0.0,
    crf: int = 18,
    aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
) -> bytes:
    """RGB frames uint8 (h, w, 3) as a file. times_ms: of each frame, instead of a rate. turned: how players must turn it, degrees clockwise."""
    frames = iter(frames)
    first = next(frames)
    # A file and not memory, because `faststart` reads again what was written.
    with tempfile.NamedTemporaryFile(suffix=".film") as out, av.open(out.name, "w", format=kind, options=options or {}) as container:
        stream: Any = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if codec == "libx264":
            stream.options = {"crf": str(crf), "preset": "ultrafast"}
        stream.codec_context.time_base = Fraction(1, 1000) if times_ms is not None else 1 / Fraction(fps).limit_denominator(1001)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if turned:
            stream.set_display_rotation(-turned)
        sound: Any = container.add_stream("aac", rate=48_000, layout="mono") if sound_s else None
        for i, rgb in enumerate(_chained(first, frames)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            frame.pts, frame.time_base = (i if times_ms is None else times_ms[i]), stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            _hum(container, sound, sound_s)
        container.close()
        return Path(out.name).read_bytes()


def hdr_film(frames: Iterable[ByteArray], kind: hdr.Kind, *, codec: str = "libx265", peak: float = 1.0, fps: int = 25) -> bytes:
    """RGB frames of BT.709 as a phone would film them in 10 bits. peak: how often the reference white their white shines."""
    frames, out = list(frames), io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream: Any = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p10le"
        trc = {"PQ": 16, "HLG": 18}[kind]
        stream.codec_context.color_primaries, stream.codec_context.color_trc, stream.codec_context.colorspace = 9, trc, 9
        stream.codec_context.color_range = 1
        stream.options = {"crf": "12", "preset": "ultrafast"} | (
            {"x265-params": "log-level=none:pools=1:frame-threads=1"} if codec == "libx265" else {}
        )
        for i, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.round(_filmed(rgb, kind, peak) * 65_535).astype(np.uint16), format="rgb48le")
            frame = frame.reformat(format="yuv420p10le", dst_colorspace=9, dst_color_range=1)
            frame.pts, frame.color_primaries, frame.color_trc = i, 9, trc
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


def _filmed(rgb: ByteArray, kind: hdr.Kind, peak: float) -> NDArray[np.float64]:
    """R'G'B' of BT.2100, 0..1: the inverse of what is tested, from the standards' other direction."""
    nits = hdr.WHITE_NITS * peak * np.power(rgb / 255, hdr.DISPLAY_GAMMA) @ np.linalg.inv(hdr.TO_709).T
    nits = np.clip(nits, 0, hdr.PEAK_NITS)
    if kind == "PQ":
        return hdr.to_pq(nits)
    display = nits / hdr.PEAK_NITS
    luminance = np.maximum(display @ hdr.LUMA_2020, 1e-9)[..., None]
    scene = np.clip(np.power(luminance, 1 / hdr.SYSTEM_GAMMA - 1) * display, 0, 1)
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), hdr.A * np.log(np.maximum(12 * scene - hdr.B, 1e-9)) + hdr.C)


def sound_only(seconds: float = 2.0) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        _hum(container, container.add_stream("aac", rate=48_000, layout="mono"), seconds)
    return out.getvalue()


def marked(i: int, width: int = 192, height: int = 128) -> ByteArray:
    """Blocks of 16 pixels in the upper left corner spell `i`; the upper right corner is red."""
    rgb = np.full((height, width, 3), 60, np.uint8)
    for bit in range(10):
        rgb[:16, bit * 8 : bit * 8 + 8] = 220 if i >> bit & 1 else 20
    rgb[:24, -24:] = (230, 20, 20)
    return rgb


def number(rgb: ByteArray) -> int:
    return sum(1 << bit for bit in range(10) if rgb[2:14, bit * 8 + 2 : bit * 8 + 6].mean() > 120)


def _chained(first: ByteArray, rest: Iterable[ByteArray]) -> Iterable[ByteArray]:
    yield first
    yield from rest


def _hum(container: Any, stream: Any, seconds: float) -> None:
    pcm = (0.2 * np.sin(np.arange(round(48_000 * seconds)) * 0.05)).astype(np.float32)
    for at in range(0, len(pcm), 1024):
        frame = av.AudioFrame.from_ndarray(pcm[None, at : at + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48_000, at
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))

"""Frames of a high dynamic range, as phones film them, to ordinary colours: a table for each kind, which FFmpeg looks up.

The table is made from the standards: BT.2100's PQ and HLG to light, BT.2390's curve from a display of 1,000 nits to one whose
white is BT.2408's reference white, BT.2087's way from BT.2020's primaries to BT.709's, and BT.1886's display gamma.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import Literal, TypeAlias

import av
import av.filter
import numpy as np
from numpy.typing import NDArray

from museserve.messages import ByteArray

Kind: TypeAlias = Literal["PQ", "HLG"]
Levels: TypeAlias = NDArray[np.float64]

TRANSFERS: dict[int, Kind] = {16: "PQ", 18: "HLG"}  # transfer characteristics of H.273
PEAK_NITS, WHITE_NITS = 1_000.0, 203.0
DISPLAY_GAMMA = 2.4
LUMA_2020 = np.array([0.2627, 0.6780, 0.0593])
LUMA_709 = np.array([0.2126, 0.7152, 0.0722])
TO_709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])  # of linear light
LEVEL = 8  # of the Hald picture: 8**2 steps a channel, between which is interpolated
PIXELS = "rgb48le"  # of planar ones `haldclut` of FFmpeg 8 mixes the colours up
M1, M2, C1, C2, C3 = 2_610 / 16_384, 2_523 / 32, 3_424 / 4_096, 2_413 / 128, 2_392 / 128  # PQ
A, B, C = 0.17883277, 0.28466892, 0.55991073  # HLG
SYSTEM_GAMMA = 1.2  # HLG's, of a display of 1,000 nits


def from_pq(signal: Levels) -> Levels:
    """PQ's signal, 0..1, to nits."""
    root = np.power(np.clip(signal, 0, 1), 1 / M2)
    nits: Levels = 10_000 * np.power(np.maximum(root - C1, 0) / (C2 - C3 * root), 1 / M1)
    return nits


def to_pq(nits: Levels) -> Levels:
    """The inverse of `from_pq`."""
    power = np.power(np.clip(nits / 10_000, 0, 1), M1)
    signal: Levels = np.power((C1 + C2 * power) / (1 + C3 * power), M2)
    return signal


def from_hlg(signal: Levels) -> Levels:
    """HLG's signal (n, 3), 0..1, to the nits of a display of `PEAK_NITS`."""
    scene = np.where(signal <= 0.5, np.square(signal) / 3, (np.exp((signal - C) / A) + B) / 12)
    nits: Levels = PEAK_NITS * np.power(scene @ LUMA_2020, SYSTEM_GAMMA - 1)[:, None] * scene
    return nits


def rolled_off(nits: Levels) -> Levels:
    """What is dark or of middle brightness as it is, and what is brighter dimmed until `PEAK_NITS` are `WHITE_NITS`."""
    peak = to_pq(np.array(PEAK_NITS))
    white = to_pq(np.array(WHITE_NITS)) / peak
    knee = 1.5 * white - 0.5
    level = np.clip(to_pq(nits) / peak, 0, 1)
    t = np.maximum(level - knee, 0) / (1 - knee)
    shoulder = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * white
    return from_pq(np.where(level < knee, level, shoulder) * peak)


def to_ordinary(signal: Levels, kind: Kind) -> Levels:
    """R'G'B' (n, 3) of BT.2100, 0..1, to R'G'B' of BT.709, 0..1.

    The largest of a colour's three lights says how much all are dimmed, so its hue stays. A colour that BT.709 lacks becomes
    paler at its own luminance.
    """
    nits = from_pq(signal) if kind == "PQ" else from_hlg(signal)
    largest = np.maximum(nits.max(axis=1, keepdims=True), 1e-6)
    light = (nits * rolled_off(largest) / largest / WHITE_NITS) @ TO_709.T
    grey = np.clip(light @ LUMA_709, 0, 1)[:, None]
    away = light - grey
    limit = np.where(away > 0, 1 - grey, grey)
    room = np.divide(limit, np.abs(away), out=np.ones_like(away), where=np.abs(away) > limit).min(axis=1, keepdims=True)
    inside = np.clip(grey + room * away, 0, 1)
    ordinary: Levels = np.power(inside, 1 / DISPLAY_GAMMA)
    return ordinary


@cache
def table(kind: Kind) -> NDArray[np.uint16]:
    """A Hald picture (512, 512, 3): every colour of the cube, red changing fastest."""
    steps = np.linspace(0, 1, LEVEL**2)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    colours = to_ordinary(np.stack([red, green, blue], -1).reshape(-1, 3), kind)
    return np.round(colours * 65_535).astype(np.uint16).reshape(LEVEL**3, LEVEL**3, 3)


class OrdinaryColours:
    """Frames of one clip to RGB of one size. width, height: of what comes out."""

    def __init__(self, kind: Kind, width: int, height: int) -> None:
        self._kind, self._width, self._height = kind, width, height
        self._made_for: tuple[int, int, str] | None = None
        self._given = 0

    def __call__(self, frame: av.VideoFrame) -> ByteArray:
        """uint8 (height, width, 3). The frame loses its time."""
        if (shape := (frame.width, frame.height, frame.format.name)) != self._made_for:  # a stream may change in mid-course
            self._build(frame)
            self._made_for = shape
        frame.pts, frame.time_base = self._given, Fraction(1, 1_000)
        self._given += 1
        self._source.push(frame)
        out = self._sink.pull()
        assert isinstance(out, av.VideoFrame)
        return np.asarray(out.to_ndarray(), np.uint8)

    def _build(self, frame: av.VideoFrame) -> None:
        graph = av.filter.Graph()
        graph.threads = 1
        full = int(frame.color_range or 0) == 2
        scaling = "area" if self._width < frame.width or self._height < frame.height else "bicubic"
        hald = table(self._kind)
        common = "time_base=1/1000:pixel_aspect=1/1"
        size = f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}"
        self._source = graph.add("buffer", f"{size}:{common}:colorspace=bt2020nc:range={'pc' if full else 'tv'}")
        scaled = graph.add("scale", f"{self._width}:{self._height}:flags={scaling}:in_color_matrix=bt2020:in_range={'full' if full else 'limited'}")
        colours = graph.add("buffer", f"video_size={hald.shape[1]}x{hald.shape[0]}:pix_fmt={PIXELS}:{common}")
        looked_up = graph.add("haldclut", "interp=tetrahedral:clut=first")
        self._sink = graph.add("buffersink")
        pixels = graph.add("format", f"pix_fmts={PIXELS}")
        self._source.link_to(scaled)
        scaled.link_to(pixels)
        pixels.link_to(looked_up)
        colours.link_to(looked_up, 0, 1)
        rgb = graph.add("format", "pix_fmts=rgb24")
        looked_up.link_to(rgb)
        rgb.link_to(self._sink)
        graph.configure()
        given = av.VideoFrame.from_ndarray(hald, PIXELS)
        given.pts, given.time_base = 0, Fraction(1, 1_000)
        colours.push(given)
        colours.push(None)
        self._graph, self._given = graph, 0

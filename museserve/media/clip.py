"""A filmed clip as upright RGB frames at 25 a second, one after the other, never all at once. The bytes come from strangers.

A clip is read as often as it is needed: `read_clip` starts from its first frame each time and gives the same frames.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, cast

import av
import cv2
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from configs.models import ClipConfig
from museserve.errors import ClipError
from museserve.media import hdr
from museserve.media.decode import FORMATS
from museserve.messages import ByteArray
from museserve.timebase import FPS

ACCEPTED = "mp4, mov, webm, mkv or avi with H.264, H.265, VP8, VP9, AV1, MPEG-4, ProRes or Motion JPEG"
# Decoders that a stranger's bytes may reach.
CODECS = ("h264", "hevc", "vp8", "vp9", "libvpx-vp9", "av1", "libdav1d", "mpeg4", "mpeg2video", "prores", "mjpeg")
OPTIONS = {"format_whitelist": FORMATS, "codec_whitelist": ",".join(CODECS), "protocol_whitelist": "none"}
MIN_SIDE = 128
DAMAGED = 0.05  # of the frames, above which a clip is refused
CUT_SHORT = 0.9  # of the length that the file claims
JITTER_MS = 2.0  # clocks of phones are no more regular than that; beyond, the frame rate is variable


@dataclass(frozen=True)
class ClipInfo:
    """What the file says of itself, and after reading what it was.

    width, height: of the frames that are given out, upright. source: width and height as stored. rotation: degrees that the frames are turned
    clockwise to be upright. fps: mean frame rate. variable: frames do not come at regular times. n_frames: given out, at 25 a second.
    damaged: frames that could not be decoded and were left out. hdr: kind of high dynamic range, if any.
    """

    width: int
    height: int
    source: tuple[int, int]
    rotation: int
    codec: str
    fps: float = 0.0
    variable: bool = False
    n_frames: int = 0
    damaged: int = 0
    hdr: Literal["PQ", "HLG", ""] = ""

    @property
    def seconds(self) -> float:
        return self.n_frames / FPS


def is_clip(data: bytes) -> bool:
    """Whether these bytes begin as a film does rather than a picture; what is neither is not a clip."""
    brand = data[8:12]
    isom = data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip") and not brand.startswith((b"avi", b"hei", b"hev", b"mif"))
    return isom or data[:4] == b"\x1aE\xdf\xa3" or (data[:4] == b"RIFF" and data[8:11] == b"AVI") or (data[:1] == b"G" and data[188:189] == b"G")


def read_clip(data: bytes, limits: ClipConfig) -> Generator[ByteArray, None, ClipInfo]:
    """The frames of the first video stream; each output time shows the source frame that is nearest to it.

    Yields:
        RGB uint8 (h, w, 3), upright, square pixels, both sides even; the shorter one at most `limits.side`.
    Returns:
        What the clip was, once all frames were read.
    Raises:
        ClipError: empty, not a film, no video stream, a codec that is not accepted, frames too large or too small, damaged, too short, too long.
    """
    with _opened(data) as (container, stream):
        shape = _checked(stream, limits)
        claimed = _claimed_s(container, stream)
        if claimed > limits.max_s + 1 / FPS:
            raise ClipError(f"the clip is {claimed:.1f} s long; up to {limits.max_s:g} s are accepted, cut out a part of it")
        # Threads of frames would hold several large ones, and phones film in one slice.
        stream.thread_type, stream.codec_context.thread_count = "SLICE", 1
        source = _ClipSource(container, stream)
        info: ClipInfo | None = None
        upright: _Upright | None = None
        n = 0
        for frame, repeats in _at_fps(source, limits.max_s):
            if info is None or upright is None:
                info = replace(shape, **_seen(frame, stream, limits))
                upright = _Upright(info, limits)
            picture = upright(frame)
            for _ in range(repeats):
                n += 1
                yield picture
    if info is None:
        raise ClipError(f"no frame of the clip could be decoded ({source.damaged} were damaged); accepted: {ACCEPTED}")
    info = replace(info, fps=source.fps, variable=source.variable, n_frames=n, damaged=source.damaged)
    _check_read(info, source, claimed, limits)
    return info


def _check_read(info: ClipInfo, source: _ClipSource, claimed: float, limits: ClipConfig) -> None:
    if source.broken_off or (claimed and info.seconds < CUT_SHORT * claimed - 2 / FPS):
        raise ClipError(f"the clip is cut short: {info.seconds:.1f} s of {claimed:.1f} s could be decoded; upload the whole file")
    if source.damaged > DAMAGED * (source.good + source.damaged):
        raise ClipError(f"the clip is damaged: {source.damaged} of {source.good + source.damaged} frames could not be decoded")
    if info.seconds < limits.min_s:
        seen = "1 frame" if source.good == 1 else f"{info.n_frames} frames ({info.seconds:.2f} s)"
        raise ClipError(f"the clip has {seen}; at least {limits.min_s:g} s are needed. A single picture is uploaded as an image")


@contextmanager
def _opened(data: bytes) -> Iterator[tuple[av.container.InputContainer, VideoStream]]:
    if not data:
        raise ClipError("the clip is empty (0 bytes)")
    try:
        container = av.open(cast(Any, io.BytesIO(data)), "r", options=OPTIONS, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ClipError(f"this is not a clip that can be read, or its beginning or end is missing ({reason}); accepted: {ACCEPTED}") from None
    with container:
        films = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
        if not films:
            kinds = ", ".join(sorted({"cover picture" if stream.type == "video" else stream.type for stream in container.streams})) or "none"
            raise ClipError(f"the file has no video stream (streams: {kinds}); accepted: {ACCEPTED}")
        yield container, films[0]


def _checked(stream: VideoStream, limits: ClipConfig) -> ClipInfo:
    """By what the header says, before anything is decoded."""
    codec = stream.codec_context
    if codec is None or codec.name not in CODECS:
        raise ClipError(f"the clip's video codec {codec.name if codec else '(unknown)'} is not accepted; accepted: {ACCEPTED}")
    _check_size(codec.width, codec.height, limits)
    return ClipInfo(0, 0, (codec.width, codec.height), 0, codec.name)


def _check_size(width: int, height: int, limits: ClipConfig) -> None:
    if width * height > limits.max_pixels:
        raise ClipError(f"the clip's frames have {width} x {height} pixels; up to {limits.max_pixels:,} pixels are accepted, such as 3840 x 2160")
    if min(width, height) < MIN_SIDE:
        raise ClipError(f"the clip's frames have {width} x {height} pixels; at least {MIN_SIDE} x {MIN_SIDE} are needed, and 1280 x 720 look good")


def _claimed_s(container: av.container.InputContainer, stream: VideoStream) -> float:
    """Length by the header, seconds; 0 when it does not say."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration and len(container.streams) == 1 else 0.0


class _ClipSource:
    """Decoded frames with their times from the first one on, and how regular and how whole they were."""

    def __init__(self, container: av.container.InputContainer, stream: VideoStream) -> None:
        self._container, self._stream = container, stream
        self.good = self.damaged = 0
        self.broken_off = self.variable = False
        self.last_s = Fraction(0)
        self.step_s = Fraction(1, FPS)  # how long the last frame is shown
        self._shortest, self._longest = 1e9, 0.0

    @property
    def fps(self) -> float:
        return float(round(1 / self.step_s, 3)) if self.good < 2 or not self.last_s else float(round((self.good - 1) / self.last_s, 3))

    def __iter__(self) -> Iterator[tuple[Fraction, av.VideoFrame]]:
        start: Fraction | None = None
        rate = self._stream.average_rate or self._stream.guessed_rate
        usual = 1 / Fraction(rate) if rate else Fraction(1, FPS)
        self.step_s = usual
        for frame in self._decoded():
            if frame.pts is None or frame.time_base is None:
                at = self.last_s + (usual if self.good else 0)
            else:
                shown = frame.pts * frame.time_base
                start = shown if start is None else start
                at = shown - start
            if self.good:
                gap = at - self.last_s
                if gap <= 0:
                    continue  # two frames at one moment: the first is kept
                self.step_s = gap
                self._shortest, self._longest = min(self._shortest, float(gap)), max(self._longest, float(gap))
                self.variable = self._longest - self._shortest > 2 * JITTER_MS / 1e3
            self.good, self.last_s = self.good + 1, at
            yield at, frame
        self.step_s = usual if self.variable or self.good < 2 else self.step_s

    def _decoded(self) -> Iterator[av.VideoFrame]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:  # the container breaks off
                self.broken_off = True
                return
            if packet is None:
                return
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self.damaged += 1
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self.damaged += 1
                else:
                    yield frame


def _at_fps(source: _ClipSource, max_s: float) -> Iterator[tuple[av.VideoFrame, int]]:
    """Each source frame with the number of output frames that show it: those nearer to it than to its neighbours."""
    before: tuple[Fraction, av.VideoFrame] | None = None
    given = 0

    def until(moment: Fraction) -> int:
        """Output frames before `moment` that were not given yet."""
        nonlocal given
        n = max(0, -(-moment * FPS // 1) - given)
        given += int(n)
        if given > max_s * FPS + 1:
            raise ClipError(f"the clip is longer than {max_s:g} s, the longest accepted; cut out a part of it")
        return int(n)

    for at, frame in source:
        if before is not None and (n := until((before[0] + at) / 2)):
            yield before[1], n
        before = at, frame
    if before is not None and (n := until(before[0] + source.step_s - Fraction(1, 2 * FPS))):
        yield before[1], n


def _seen(frame: av.VideoFrame, stream: VideoStream, limits: ClipConfig) -> dict[str, Any]:
    """Size and rotation, which only a decoded frame tells for certain."""
    _check_size(frame.width, frame.height, limits)
    aspect = float(stream.sample_aspect_ratio or 1)
    aspect = aspect if 0.25 <= aspect <= 4 else 1.0
    width, height = (frame.width * aspect, frame.height) if aspect >= 1 else (frame.width, frame.height / aspect)
    scale = min(1.0, limits.side / min(width, height))
    rotation = round(-frame.rotation / 90) * 90 % 360
    across, down = (max(2, round(float(v) * scale / 2) * 2) for v in (width, height))
    if rotation % 180:
        across, down = down, across
    return {
        "width": across,
        "height": down,
        "source": (frame.width, frame.height),
        "rotation": rotation,
        "hdr": hdr.TRANSFERS.get(int(frame.color_trc or 0), ""),
    }


class _Upright:
    """Frames of one clip as they are given out."""

    def __init__(self, info: ClipInfo, limits: ClipConfig) -> None:
        self._info, self._limits = info, limits
        self._size = (info.height, info.width) if info.rotation % 180 else (info.width, info.height)
        self._turn = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}.get(info.rotation)
        self._plain = VideoReformatter()  # kept, because a frame's own makes its tables anew
        self._ordinary = hdr.OrdinaryColours(info.hdr, *self._size) if info.hdr else None

    def __call__(self, frame: av.VideoFrame) -> ByteArray:
        if (frame.width, frame.height) != self._info.source:  # a stream may change in mid-course
            _check_size(frame.width, frame.height, self._limits)
        rgb = self._to_rgb(frame) if self._ordinary is None else self._ordinary(frame)
        return rgb if self._turn is None else np.asarray(cv2.rotate(rgb, self._turn), np.uint8)

    def _to_rgb(self, frame: av.VideoFrame) -> ByteArray:
        across, down = self._size
        shrinks = across < frame.width or down < frame.height
        picture = self._plain.reformat(frame, across, down, "rgb24", interpolation=Interpolation.AREA if shrinks else Interpolation.BICUBIC)
        return np.asarray(picture.to_ndarray(), np.uint8)

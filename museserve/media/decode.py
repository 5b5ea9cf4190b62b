"""Recorded speech of any format to float32 mono at 24 kHz. The bytes come from strangers."""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
import numpy as np
from av.audio.stream import AudioStream

from museserve.errors import AudioError
from museserve.messages import FloatArray
from museserve.timebase import SPEECH_RATE

logger = logging.getLogger(__name__)

ACCEPTED = "mp3, wav, m4a/mp4, ogg/opus, flac, webm, aac, amr, aiff or caf"
# Demuxers that read one self-contained file. Playlists (HLS, DASH, concat) would make the library open what their text names.
FORMATS = "mp3,wav,w64,mov,mp4,ogg,flac,matroska,webm,aac,amr,aiff,caf,mpegts,avi"
# Decoders that a stranger's bytes may reach; without this the probe would also decode a video's pictures.
CODECS = (
    "aac,mp3float,mp3,mp2float,mp2,opus,libopus,vorbis,flac,alac,ac3,eac3,amrnb,amrwb,libopencore_amrnb,libopencore_amrwb,"
    "pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,pcm_f64be,pcm_u8,pcm_s8,pcm_alaw,pcm_mulaw,"
    "adpcm_ms,adpcm_ima_wav,adpcm_ima_qt,gsm_ms"
)
PROBE = {"format_whitelist": FORMATS, "codec_whitelist": CODECS, "protocol_whitelist": "none"}
CHUNKS = (b"fmt ", b"data", b"fact", b"LIST", b"bext", b"PEAK", b"cue ", b"id3 ")  # that a WAV may go on with
MAX_CHUNKS = 64
MAX_CHANNELS = 16
MIN_RATE, MAX_RATE = 4_000, 768_000
MAX_TRACKS = 4  # of which the first is taken in which something is heard
OPPOSED = 0.4  # where the mean of both sides has less of the louder side's level, they cancel each other
GAP_S, LONGEST_GAP_S = 0.1, 30.0  # a pause for which a codec sent no packets; what is longer is a clock that jumped
SILENT_RMS = 10 ** (-54 / 20)  # of the loudest 20 ms; a whisper into a phone is 10 dB above
WINDOW = SPEECH_RATE // 50


def decode_speech(source: bytes | Path, *, min_s: float, max_s: float) -> FloatArray:
    """The first audio stream of a recording, or of a video file, in which anything is heard.

    Stereo becomes the mean of both sides, or the louder one where they cancel each other; samples beyond full scale bring the
    whole down to it. Pauses for which no packets were sent are silence. A recording with damaged parts gives what could be
    decoded of it, as long as that is at least `min_s` and the larger part.

    Args:
        source: the file's bytes, or its path on this machine.
        min_s, max_s: shortest and longest accepted, seconds. Decoding stops soon after `max_s`, whatever follows.
    Returns:
        float32 (n,) at 24 kHz in -1..1.
    Raises:
        AudioError: empty, not a recording, no audio stream, undecodable, silent, too short, too long.
    """
    file: BinaryIO = source.open("rb") if isinstance(source, Path) else io.BytesIO(source)
    with closing(file):
        signature = file.read(4)
        if not signature:
            raise AudioError("the recording is empty (0 bytes)")
        file.seek(0)
        if signature == b"RIFX":
            file = io.BytesIO(_little_endian(file.read()))
        elif signature == b"RIFF" and (padded := _padded(file)) is not None:
            file = io.BytesIO(padded)
        pcm, damaged = _decode(file, max_s)
    seconds = len(pcm) / SPEECH_RATE
    if damaged and seconds < min_s:
        raise AudioError(f"the recording is damaged: {seconds:.2f} s of it could be decoded, at least {min_s:g} s are needed")
    if seconds < min_s:
        raise AudioError(f"the recording is {seconds:.2f} s long, at least {min_s:g} s are needed")
    if _loudest(pcm) < SILENT_RMS:
        raise AudioError(f"the recording ({seconds:.2f} s) is silent: nothing in it is louder than -54 dB of full scale")
    if damaged:
        logger.warning("a recording had %d damaged packets; %.2f s were decoded", damaged, seconds)
    peak = float(np.abs(pcm).max())
    return pcm / np.float32(peak) if peak > 1 else pcm


def _decode(file: BinaryIO, max_s: float) -> tuple[FloatArray, int]:
    """All of the stream up to `max_s`, and how many of its packets were damaged."""
    first, tracks = _decode_track(file, max_s, 0)
    if _is_heard(first[0]):
        return first
    for track in range(1, min(tracks, MAX_TRACKS)):
        file.seek(0)
        try:
            other, _ = _decode_track(file, max_s, track)
        except AudioError:
            continue
        if _is_heard(other[0]):
            return other
    return first


def _is_heard(pcm: FloatArray) -> bool:
    return len(pcm) > 0 and _loudest(pcm) >= SILENT_RMS


def _decode_track(file: BinaryIO, max_s: float, track: int) -> tuple[tuple[FloatArray, int], int]:
    """One of the audio streams as `_decode` gives it, and how many there are."""
    try:
        container = av.open(cast(Any, file), "r", options=PROBE, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        file.seek(0)
        raise AudioError(f"this is not a recording that can be read ({_named(file.read(64)) or _reason(error)}); accepted: {ACCEPTED}") from None
    with container:
        if not container.streams.audio:
            kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "none"
            raise AudioError(f"the file has no audio stream (streams: {kinds})")
        stream = container.streams.audio[track]
        _check_parameters(stream)
        sound = _Collected(max_s)
        good = damaged = 0
        for ok in _packets(container, stream, sound):
            good, damaged = good + ok, damaged + (not ok)
        if damaged > good:
            raise AudioError(f"the recording is damaged: {damaged} of {good + damaged} packets could not be decoded")
        return (sound.finish(), damaged), len(container.streams.audio)


def _packets(container: av.container.InputContainer, stream: AudioStream, sound: _Collected) -> Iterator[bool]:
    """Decode packet by packet; True for each that could be."""
    demuxed = container.demux(stream)
    while True:
        try:
            packet = next(demuxed, None)
        except av.FFmpegError:  # the container breaks off: keep what there is
            yield False
            return
        if packet is None:
            return
        try:
            for frame in packet.decode():
                sound.add(frame)
        except av.FFmpegError:
            yield False
        else:
            yield True


class _Collected:
    """Decoded frames as 24 kHz, with a resampler for whatever layout and rate the frames have just now."""

    def __init__(self, max_s: float) -> None:
        self._max_s = max_s
        self._limit = round(max_s * SPEECH_RATE)
        self._parts: list[FloatArray] = []
        self._samples = 0
        self._ended_s: float | None = None  # the last frame, by the recording's clock
        self._shape: tuple[str, str, int] | None = None
        self._resampler: av.AudioResampler | None = None

    def add(self, frame: av.AudioFrame) -> None:
        shape = frame.format.name, frame.layout.name, frame.sample_rate
        if shape != self._shape:  # at first, and where a stream changes in mid-course
            _check(frame.layout.nb_channels, frame.sample_rate)
            self._flush()
            layout = "mono" if frame.layout.nb_channels == 1 else "stereo"
            self._shape, self._resampler = shape, av.AudioResampler(format="fltp", layout=layout, rate=SPEECH_RATE)
        self._keep_gap(frame)
        frame.pts = None  # else the samples are the time
        self._resample(frame)
        if self._samples > self._limit:
            raise AudioError(f"the recording is longer than {self._max_s:g} s, the longest accepted")

    def _keep_gap(self, frame: av.AudioFrame) -> None:
        """Silence where the clock went on without packets, as Opus and AAC do in a pause."""
        begins_s, ended_s = frame.time, self._ended_s
        self._ended_s = None if begins_s is None else begins_s + frame.samples / frame.sample_rate
        if begins_s is None or ended_s is None or not GAP_S < begins_s - ended_s <= LONGEST_GAP_S:
            return
        self._flush()
        self._shape = frame.format.name, frame.layout.name, frame.sample_rate
        layout = "mono" if frame.layout.nb_channels == 1 else "stereo"
        self._resampler = av.AudioResampler(format="fltp", layout=layout, rate=SPEECH_RATE)
        self._parts.append(np.zeros((1, round((begins_s - ended_s) * SPEECH_RATE)), np.float32))
        self._samples += self._parts[-1].shape[1]

    def finish(self) -> FloatArray:
        self._flush()
        if not self._parts:
            return np.zeros(0, np.float32)
        sides = np.concatenate([np.broadcast_to(part, (2, part.shape[1])) if self._is_stereo else part for part in self._parts], 1)
        mean: FloatArray = sides.mean(axis=0, dtype=np.float32)
        levels = np.sqrt(np.square(sides).mean(axis=1))
        if np.sqrt(np.square(mean).mean()) < OPPOSED * levels.max():
            return np.ascontiguousarray(sides[int(levels.argmax())])
        return mean

    @property
    def _is_stereo(self) -> bool:
        return any(len(part) == 2 for part in self._parts)

    def _flush(self) -> None:
        if self._resampler is not None:
            self._resample(None)

    def _resample(self, frame: av.AudioFrame | None) -> None:
        assert self._resampler is not None
        for out in self._resampler.resample(frame):
            pcm: FloatArray = np.nan_to_num(out.to_ndarray().astype(np.float32, copy=False), posinf=1.0, neginf=-1.0)
            self._parts.append(pcm)
            self._samples += pcm.shape[1]


def _check_parameters(stream: AudioStream) -> None:
    if stream.codec_context is None:
        raise AudioError(f"the recording's audio codec is not known; accepted: {ACCEPTED}")
    if stream.codec_context.name not in CODECS.split(","):
        raise AudioError(f"the recording's audio codec {stream.codec_context.name} is not accepted; accepted: {ACCEPTED}")
    _check(stream.codec_context.layout.nb_channels, stream.codec_context.sample_rate)


def _check(channels: int, rate: int) -> None:
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(f"the recording has {channels} channels, 1 to {MAX_CHANNELS} are accepted")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError(f"the recording has a sample rate of {rate} Hz, {MIN_RATE} to {MAX_RATE} are accepted")


def _loudest(pcm: FloatArray) -> float:
    """RMS of the loudest 20 ms, any constant offset taken away."""
    centred = pcm - pcm.mean(dtype=np.float64)
    whole = len(centred) // WINDOW * WINDOW
    windows = centred[:whole].reshape(-1, WINDOW) if whole else centred[None]
    return float(np.sqrt(np.square(windows).mean(axis=1).max()))


def _little_endian(rifx: bytes) -> bytes:
    """A RIFX recording, a WAV of big-endian machines, as the WAV that decoders know. Anything that is not PCM stays as it is."""
    kept, at, width = [b"RIFF", struct.pack("<I", max(0, len(rifx) - 8)), rifx[8:12]], 12, 2
    while at + 8 <= len(rifx):
        kind, size = rifx[at : at + 4], int.from_bytes(rifx[at + 4 : at + 8], "big")
        body = rifx[at + 8 : at + 8 + size]
        if kind == b"fmt " and len(body) >= 16:
            values = struct.unpack(">HHIIHH", body[:16])
            width, body = values[5] // 8, struct.pack("<HHIIHH", *values) + body[16:]
        elif kind == b"data" and width in (2, 3, 4, 8):
            whole = len(body) // width * width
            body = np.frombuffer(body[:whole], np.uint8).reshape(-1, width)[:, ::-1].tobytes()
        kept += [kind, struct.pack("<I", len(body)), body, b"\0" * (len(body) % 2)]
        at += 8 + size + size % 2
    return b"".join(kept)


def _padded(riff: BinaryIO) -> bytes | None:
    """A WAV some of whose chunks of odd length lack the byte that fills them up, with it; None where none does, and back at the start."""
    gaps, at = list[int](), 12
    for _ in range(MAX_CHUNKS):
        riff.seek(at)
        if len(head := riff.read(8)) < 8:
            break
        at += 8 + int.from_bytes(head[4:], "little")
        if at % 2 != len(gaps) % 2:
            riff.seek(at)
            if riff.read(4) in CHUNKS:
                gaps.append(at)
            else:
                at += 1
    riff.seek(0)
    if not gaps:
        return None
    whole, borders = riff.read(), [0, *gaps, None]
    return b"\0".join(whole[a:b] for a, b in zip(borders, borders[1:], strict=False))


def _named(start: bytes) -> str:
    """What callers send in place of a recording; empty where it is something else."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    kinds = (
        (b"<", "an HTML or XML page"),
        (b"{", "a JSON text"),
        (b"data:", "a data URL"),
        (b"uklgr", "base64"),
        (b"suqz", "base64"),
        (b"//uq", "base64"),
    )
    return next((f"it is {name}" for signature, name in kinds if text.startswith(signature)), "")


def _reason(error: Exception) -> str:
    if isinstance(error, av.ArgumentError):  # what a demuxer that is not allowed comes to
        return "its format is none of these"
    return getattr(error, "strerror", None) or str(error)

"""Speech alone, streamed in the formats of OpenAI's speech endpoint."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.audio.stream import AudioStream

from museserve.errors import RequestError
from museserve.media.fragments import ByteSink
from museserve.messages import FloatArray
from museserve.timebase import SPEECH_RATE

CONTENT_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}

# format -> container, codec, highest bit rate at 24 kHz mono, container options. All are written front to back: a stream has no way to
# go back and fill in its length.
_CODED: dict[str, tuple[str, str, int, dict[str, str]]] = {
    "mp3": ("mp3", "libmp3lame", 160_000, {"write_xing": "0", "id3v2_version": "0"}),
    "opus": ("ogg", "libopus", 256_000, {"page_duration": "100000"}),
    "aac": ("adts", "aac", 144_000, {}),
    "flac": ("flac", "flac", 0, {}),
}
_UNKNOWN_LENGTH = 0xFFFF_FFFF


class SpeechEncoder:
    """Mono 24 kHz speech in pieces -> bytes of a file in pieces. wav and pcm are 16 bit little endian, pcm without a header.

    bit_rate_bps is lowered to what the codec can do at this rate (mp3 160,000, aac 144,000, opus 256,000); flac, wav and pcm have none.
    A wav tells no length, since it is sent before the length is known.
    """

    def __init__(self, audio_format: str, bit_rate_bps: int = 96_000) -> None:
        if audio_format not in CONTENT_TYPES:
            raise RequestError(f"unknown audio format {audio_format!r}; accepted: {', '.join(CONTENT_TYPES)}")
        self.content_type = CONTENT_TYPES[audio_format]
        self._sink = ByteSink()
        self._samples = 0
        self._finished = False
        self._stream: AudioStream | None = None
        if audio_format in _CODED:
            container, codec, highest, options = _CODED[audio_format]
            self._container = av.open(self._sink, "w", format=container, options={"flush_packets": "1", **options})
            stream = cast(AudioStream, self._container.add_stream(codec, rate=SPEECH_RATE))
            stream.codec_context.layout = "mono"
            if highest:
                stream.codec_context.bit_rate = min(bit_rate_bps, highest)
            self._stream = stream
            self._container.start_encoding()
        elif audio_format == "wav":
            self._sink.write(wav_header())

    def encode(self, pcm: FloatArray) -> bytes:
        """float32 (n,) in -1..1 -> what can be sent so far; may be empty."""
        if self._finished:
            raise ValueError("speech came after finish")
        if len(pcm):
            # scaled by 32,767 both ways, so that full scale does not wrap
            levels = np.round(np.clip(np.nan_to_num(pcm), -1.0, 1.0) * 32_767).astype("<i2")
            if self._stream is None:
                self._sink.write(levels.tobytes())
            else:
                frame = av.AudioFrame.from_ndarray(levels.astype(np.int16)[None], format="s16", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = SPEECH_RATE, self._samples, Fraction(1, SPEECH_RATE)
                self._container.mux(self._stream.encode(frame))
            self._samples += len(pcm)
        return self._sink.take()

    def finish(self) -> bytes:
        """The rest of the file. A second call gives nothing."""
        if not self._finished and self._stream is not None:
            self._container.mux(self._stream.encode(None))
            self._container.close()
        self._finished = True
        return self._sink.take()


def wav_header(n_samples: int | None = None) -> bytes:
    """44 bytes before 16-bit mono samples at 24 kHz; None = length not known, which readers take as "until the end"."""
    size = _UNKNOWN_LENGTH if n_samples is None else 2 * n_samples
    riff = _UNKNOWN_LENGTH if n_samples is None else size + 36
    fmt = struct.pack("<HHIIHH", 1, 1, SPEECH_RATE, 2 * SPEECH_RATE, 2, 16)
    return b"RIFF" + struct.pack("<I", riff) + b"WAVEfmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", size)

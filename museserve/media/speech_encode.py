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

# format -> content type, container, codec, highest bit rate at 24 kHz mono, container options. All are written front to
# back: a stream has no way to go back and fill in its length. A wav claims the greatest, "until the end" to readers, and a
# flac none, which some do not read. `with_length` mends both where the whole is there.
_FORMATS: dict[str, tuple[str, str, str, int, dict[str, str]]] = {
    "mp3": ("audio/mpeg", "mp3", "libmp3lame", 160_000, {"write_xing": "0", "id3v2_version": "0"}),
    "opus": ("audio/ogg", "ogg", "libopus", 256_000, {"page_duration": "100000"}),
    "aac": ("audio/aac", "adts", "aac", 144_000, {}),
    "flac": ("audio/flac", "flac", "flac", 0, {}),
    "wav": ("audio/wav", "wav", "pcm_s16le", 0, {"fflags": "bitexact"}),  # no chunk that names the library
    "pcm": ("audio/pcm", "s16le", "pcm_s16le", 0, {}),
}
WAV_HEAD = 44
FLAC_SAMPLES = 18  # in the STREAMINFO block, the first of the file
CONTENT_TYPES = {name: row[0] for name, row in _FORMATS.items()}


class SpeechEncoder:
    """Mono 24 kHz speech in pieces -> bytes of a file in pieces. wav and pcm are 16 bit little endian, pcm without a header.

    bit_rate_bps is lowered to what the codec can do at this rate (mp3 160,000, aac 144,000, opus 256,000); flac, wav and pcm have none.
    """

    def __init__(self, audio_format: str, bit_rate_bps: int = 96_000) -> None:
        if audio_format not in CONTENT_TYPES:
            raise RequestError(f"unknown audio format {audio_format!r}; accepted: {', '.join(CONTENT_TYPES)}")
        self.content_type, container, codec, highest, options = _FORMATS[audio_format]
        self._sink = ByteSink()
        self._container = av.open(self._sink, "w", format=container, options={"flush_packets": "1", **options})
        self._stream = cast(AudioStream, self._container.add_stream(codec, rate=SPEECH_RATE))
        self._stream.codec_context.layout = "mono"
        if highest:
            self._stream.codec_context.bit_rate = min(bit_rate_bps, highest)
        self._container.start_encoding()
        self._samples = 0
        self._finished = False

    def encode(self, pcm: FloatArray) -> bytes:
        """float32 (n,) in -1..1 -> what can be sent so far; may be empty."""
        if self._finished:
            raise ValueError("speech came after finish")
        if len(pcm):
            # scaled by 32,767 both ways, so that full scale does not wrap
            levels = np.round(np.clip(np.nan_to_num(pcm), -1.0, 1.0) * 32_767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(levels[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = SPEECH_RATE, self._samples, Fraction(1, SPEECH_RATE)
            self._container.mux(self._stream.encode(frame))
            self._samples += len(pcm)
        return self._sink.take()

    def finish(self) -> bytes:
        """The rest of the file. A second call gives nothing."""
        if not self._finished:
            self._container.mux(self._stream.encode(None))
            self._container.close()
        self._finished = True
        return self._sink.take()

    def with_length(self, file: bytes) -> bytes:
        """All that was given out, once it is finished, with its length where the format has a place for it."""
        data = bytearray(file)
        if self.content_type == "audio/wav":
            struct.pack_into("<I", data, 4, len(data) - 8)
            struct.pack_into("<I", data, WAV_HEAD - 4, len(data) - WAV_HEAD)
        elif self.content_type == "audio/flac":
            (word,) = struct.unpack_from(">Q", data, FLAC_SAMPLES)  # of which the lower 36 bits count samples
            struct.pack_into(">Q", data, FLAC_SAMPLES, word >> 36 << 36 | self._samples)
        return bytes(data)

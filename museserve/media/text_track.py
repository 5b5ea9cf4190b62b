"""Captions as a text track inside a finished mp4 (3GPP timed text, `tx3g`), which QuickTime, Safari, VLC and phones show by themselves."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from av import Packet
from av.container import OutputContainer
from av.stream import Stream
from av.subtitles.stream import SubtitleStream

from museserve.media.captions import Cue, cues
from museserve.messages import SpeechRequest, Word
from museserve.speech.text.language import detect
from museserve.timebase import FPS

MILLISECONDS = Fraction(1, 1_000)
UNDETERMINED = "und"
# An mp4 names languages by three letters (ISO 639-2/T).
ISO_639_2 = {
    "ar": "ara", "cs": "ces", "da": "dan", "de": "deu", "el": "ell", "en": "eng", "es": "spa", "fi": "fin", "fr": "fra", "he": "heb", "hi": "hin",
    "hu": "hun", "id": "ind", "it": "ita", "ja": "jpn", "ko": "kor", "nb": "nob", "nl": "nld", "pl": "pol", "pt": "por", "ro": "ron", "ru": "rus",
    "sv": "swe", "th": "tha", "tr": "tur", "uk": "ukr", "vi": "vie", "zh": "zho",
}  # fmt: skip
# What the encoder makes the track's default style from: white, centred at the bottom.
STYLE = b"""[Script Info]
ScriptType: v4.00+
[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, BackColour, Alignment
Style: Default,Sans-Serif,18,&H00FFFFFF,&H80000000,2
"""


@dataclass(frozen=True)
class TextTrack:
    """cues: in order, none overlapping; language: BCP 47 base tag such as ko; duration_ms: the film's, behind which no cue stands."""

    cues: Sequence[Cue]
    language: str
    duration_ms: int

    @classmethod
    def of(cls, words: Sequence[Word], said: SpeechRequest, frames: int) -> TextTrack:
        """The track of a film of `frames` frames in which `said` is spoken."""
        return cls(cues(words), detect(said.text, said.language), frames * 1_000 // FPS)

    def add_to(self, target: OutputContainer) -> Iterator[Packet[Stream]]:
        """The packets to mux. Adds the stream when the first is asked for, so before anything is written."""
        stream: SubtitleStream = target.add_stream("mov_text")
        stream.codec_context.subtitle_header = STYLE
        stream.time_base = MILLISECONDS
        stream.metadata["language"] = ISO_639_2.get(self.language, UNDETERMINED)
        for cue in self.cues:
            end_ms = min(cue.end_ms, self.duration_ms)
            if cue.start_ms < end_ms:
                text = "\n".join(cue.lines).encode()
                packet = Packet(struct.pack(">H", len(text)) + text)
                packet.pts = packet.dts = cue.start_ms
                packet.duration, packet.time_base, packet.stream = end_ms - cue.start_ms, MILLISECONDS, stream
                yield packet

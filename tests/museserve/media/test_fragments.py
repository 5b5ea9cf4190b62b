"""Fragments are what FFmpeg would have written, to the byte."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import av
import numpy as np
import pytest

from museserve.media.encode import FragmentEncoder, init_segment
from museserve.media.fragments import ByteSink, length_prefixed
from tests.museserve.media.clips import CONFIG, SIDE, clicks, numbered

FLAGS = "frag_custom+empty_moov+default_base_moof+frag_discont+skip_trailer"


def written_by_ffmpeg(number: int, tracks: Sequence[tuple[Any, Sequence[Any]]]) -> bytes:
    sink = ByteSink()
    options = {"movflags": FLAGS, "fragment_index": str(number + 1), "avoid_negative_ts": "disabled"}
    with av.open(sink, "w", format="mp4", options=options) as container:
        streams = [container.add_stream_from_template(stream) for stream, _ in tracks]
        container.start_encoding()
        sink.take()
        for stream, (_, packets) in zip(streams, tracks, strict=True):
            for packet in packets:
                packet.stream = stream
                container.mux_one(packet)
    return sink.take()


@pytest.mark.parametrize("sound", ["speech", "silence"])
def test_fragments_are_those_of_ffmpeg(sound: str) -> None:
    """Pieces of one frame and of many, with key frames and without, samples of one size (silence) and of several."""
    pieces = [2, 6, 8, 1, 1, 6, 8]
    pcm = clicks(60_000, [1_400, 9_000, 30_000]) if sound == "speech" else np.zeros(60_000, np.float32)
    with FragmentEncoder(SIDE, SIDE, CONFIG, first_frame=16) as encoder:
        encoder.push_audio(pcm)
        firsts = [16 + sum(pieces[:i]) for i in range(len(pieces))]
        fragments = [encoder.encode(numbered(first, n), key=i in (3, 6)) for i, (first, n) in enumerate(zip(firsts, pieces, strict=True))]
    with av.open(io.BytesIO(init_segment(SIDE, SIDE, CONFIG) + b"".join(fragments)), "r") as film:
        video, audio = film.streams.video[0], film.streams.audio[0]
        packets = [packet for packet in film.demux(video, audio) if packet.size]
        pictures, sounds = ([packet for packet in packets if packet.stream is stream] for stream in (video, audio))
        for number, (first, n, fragment) in enumerate(zip(firsts, pieces, fragments, strict=True)):
            frames, heard = (slice(at(first) - at(16), at(first + n) - at(16)) for at in (lambda f: f, lambda f: f * 1_920 // 1_024))
            assert fragment == written_by_ffmpeg(16 + number, [(video, pictures[frames]), (audio, sounds[heard])])


def test_units_between_start_codes_get_their_lengths() -> None:
    stream = b"\0\0\0\1" + b"\x06sei" + b"\0\0\1" + b"\x65key\0\0\3\1" + b"\0\0\0\1" + b"\x41p"
    assert length_prefixed(stream) == b"\0\0\0\4\x06sei" + b"\0\0\0\x08\x65key\0\0\3\1" + b"\0\0\0\2\x41p"

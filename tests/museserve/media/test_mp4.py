from __future__ import annotations

import io
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from museserve.errors import RenderError
from museserve.media.encode import init_segment
from museserve.media.mp4 import to_mp4
from museserve.media.text_track import TextTrack
from museserve.messages import SpeechRequest, Word
from museserve.timebase import SPEECH_RATE
from tests.decoded import length_s
from tests.museserve.media.clips import CONFIG, SIDE, clicks, film, peaks, watch
from tests.museserve.media.isobmff import boxes, parse_fragments

INIT = init_segment(SIDE, SIDE, CONFIG)


@pytest.fixture(scope="module")
def fragments() -> list[bytes]:
    return film(clicks(60_000, [4_800, 30_001, 58_000]))


def packets(data: bytes) -> dict[str, list[tuple[Any, ...]]]:
    found: dict[str, list[tuple[Any, ...]]] = {"video": [], "audio": [], "subtitle": []}
    with av.open(io.BytesIO(data), "r") as container:
        for packet in container.demux():
            if packet.dts is not None:
                found[packet.stream.type].append((packet.pts, packet.dts, packet.duration, bytes(packet)))
    return found


def finished(parts: list[bytes]) -> bytes:
    out = io.BytesIO()
    to_mp4(parts, out)
    return out.getvalue()


def test_the_file_holds_the_same_packets_at_the_same_times(fragments: list[bytes]) -> None:
    data = finished([INIT, *fragments])
    assert packets(data) == packets(INIT + b"".join(fragments))
    shown, pcm, first = watch(data)
    assert shown == [(i, i) for i in range(64)]
    assert first == 0 and peaks(pcm) == [9_600, 60_002, 116_000]


def test_both_tracks_start_at_zero_and_are_equally_long(fragments: list[bytes]) -> None:
    with av.open(io.BytesIO(finished([INIT, *fragments])), "r") as container:
        assert container.duration == 2_560_000
        for stream in container.streams:
            assert stream.start_time == 0
            assert length_s(stream) == Fraction(64, 25)


def test_the_index_comes_before_the_media(fragments: list[bytes]) -> None:
    kinds = [kind for kind, *_ in boxes(finished([INIT, *fragments]))]
    assert kinds.index("moov") == 1 and kinds[-1] == "mdat" and "moof" not in kinds


def test_parts_may_be_cut_anywhere_and_the_target_need_not_seek(fragments: list[bytes], tmp_path: Path) -> None:
    whole = INIT + b"".join(fragments)
    expected = finished([INIT, *fragments])
    path = tmp_path / "out.mp4"
    with path.open("wb") as file:
        to_mp4((whole[at : at + 777] for at in range(0, len(whole), 777)), file)
    assert path.read_bytes() == expected
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_a_text_track_tells_the_words_when_they_are_spoken(fragments: list[bytes]) -> None:
    def word(text: str, start_s: float, end_s: float) -> Word:
        return Word(text, round(start_s * SPEECH_RATE), round(end_s * SPEECH_RATE))

    words = [word("안녕하세요.", 0.2, 0.9), word("자기소개를", 1.7, 2.0), word("해", 2.0, 2.1), word("주세요.", 2.1, 2.55)]
    out = io.BytesIO()
    to_mp4([INIT, *fragments], out, TextTrack.of(words, SpeechRequest("안녕하세요. 자기소개를 해 주세요."), 64))
    with av.open(io.BytesIO(out.getvalue()), "r") as container:
        (track,) = container.streams.subtitles
        assert (track.codec_context.name, track.language) == ("mov_text", "kor")
        cues: list[Any] = [packet for packet in container.demux(track) if packet.size > 2]
        shown = [(p.pts, p.pts + p.duration, bytes(p)[2:].decode()) for p in cues]
        assert container.duration == 2_560_000  # a cue does not lengthen the film
    assert shown == [(200, 1_200, "안녕하세요."), (1_700, 2_560, "자기소개를 해 주세요.")]
    with_track, without = packets(out.getvalue()), packets(finished([INIT, *fragments]))
    assert with_track["video"] == without["video"] and with_track["audio"] == without["audio"]


@pytest.mark.parametrize("parts", [[], [b""], [INIT], [b"no video at all" * 40]])
def test_parts_that_are_no_video_are_an_error(parts: list[bytes]) -> None:
    with pytest.raises(RenderError):
        finished(parts)


def test_an_error_of_the_source_comes_through(fragments: list[bytes]) -> None:
    def broken() -> object:
        yield INIT
        yield fragments[0]
        raise RenderError("segment 1 failed on every try")

    with pytest.raises(RenderError, match="every try"):
        to_mp4(broken(), io.BytesIO())  # type: ignore[arg-type]


def test_nothing_is_left_running_or_open(fragments: list[bytes]) -> None:
    threads = threading.active_count()
    for _ in range(5):
        finished([INIT, *fragments])
    assert threading.active_count() == threads


def test_the_reader_of_fragments_refuses_what_is_cut(fragments: list[bytes]) -> None:
    whole = b"".join(fragments)
    assert len(parse_fragments(INIT + whole)) == len(fragments)
    moof = parse_fragments(fragments[0])[0]
    with pytest.raises(ValueError, match="no whole box"):
        parse_fragments(whole[:-1])
    with pytest.raises(ValueError, match="has no mdat"):
        parse_fragments(fragments[0][: moof.n_bytes - moof.payload - 8])
    with pytest.raises(ValueError, match="has no moof"):
        parse_fragments(fragments[0][moof.n_bytes - moof.payload - 8 :])
    assert np.all([len(track.sizes) for info in parse_fragments(whole) for track in info.tracks])

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable

import numpy as np
import pytest

from deployments.so_far import FilmSoFar, SpeechSoFar
from museserve.errors import SpeechEngineError
from museserve.messages import Fragment, FragmentHead, Phoneme, SpeechChunk, VideoRequest, Word
from museserve.timebase import SEGMENT_FRAMES, SPEECH_RATE

REQUEST = VideoRequest("u", "woman")
HEAD = FragmentHead("c", {})
TOTAL = 32
WORDS = [Word(f"w{i}", i, i + 1) for i in range(4)]


def film(first_frame: int = 0, pieces: tuple[int, ...] = (2, 6), upto: int = TOTAL) -> list[Fragment]:
    """What a Mux answers: a word with each segment, and all that were before on the first fragment."""
    made: list[Fragment] = []
    at, sizes = first_frame, list(pieces)
    while at < upto:
        n = sizes.pop(0) if sizes else SEGMENT_FRAMES
        said = WORDS[: at // 8 + 1] if not made else [WORDS[at // 8]] if at % 8 == 0 else []
        data = b"....moof%d-%d" % (at, at + n)
        made.append(Fragment(data if made else b"INIT" + data, at, n, tuple(said), TOTAL if at >= 8 else None, None if made else HEAD))
        at += n
    return made


async def stream(items: Iterable[Fragment | SpeechChunk]) -> AsyncGenerator:
    for item in items:
        yield item


async def test_a_whole_stream_passes_as_it_is() -> None:
    assert [f async for f in FilmSoFar(REQUEST).rest(stream(film()))] == film()


@pytest.mark.parametrize("came", range(1, 5))
@pytest.mark.parametrize("pieces", [(2, 6), (8,)])
async def test_whatever_came_nothing_comes_twice_and_nothing_is_missing(came: int, pieces: tuple[int, ...]) -> None:
    """Cut after `came` fragments, and again after the first of the answer, whose pieces differ where it begins in mid-utterance."""
    so_far, seen = FilmSoFar(REQUEST), list[Fragment]()
    with pytest.raises(ConnectionError, match="before its last"):
        async for fragment in so_far.rest(stream(film()[:came])):
            seen.append(fragment)
    for cut in (1, 99):
        border = so_far.request().first_frame
        assert border % SEGMENT_FRAMES == 0 and border <= sum(f.n_frames for f in seen)
        answer = film(border, pieces if border and cut > 1 else (2, 6))[:cut]
        try:
            async for fragment in so_far.rest(stream(answer)):
                seen.append(fragment)
        except ConnectionError:
            assert cut == 1
    frames = [frame for f in seen for frame in range(f.first_frame, f.first_frame + f.n_frames)]
    assert frames == list(range(TOTAL)) and seen[-1].final
    assert [w for f in seen for w in f.words] == WORDS
    assert [f.head for f in seen] == [HEAD] + [None] * (len(seen) - 1)
    assert b"".join(f.data for f in seen).count(b"INIT") == 1 and seen[0].data.startswith(b"INIT")


async def test_what_begins_in_mid_utterance_keeps_its_own_head() -> None:
    so_far = FilmSoFar(VideoRequest("u", "woman", first_frame=16))
    assert so_far.request().first_frame == 16
    seen = [f async for f in so_far.rest(stream(film(16)))]
    assert seen == film(16) and seen[0].head is HEAD and list(seen[0].words) == WORDS[:3]


async def test_a_gap_is_refused() -> None:
    with pytest.raises(ConnectionError, match="frame 8 was missing"):
        async for _ in FilmSoFar(REQUEST).rest(stream(f for f in film() if f.first_frame != 8)):
            pass


def spoken(lengths: list[int], engine: str = "hibari") -> list[SpeechChunk]:
    chunks, at = list[SpeechChunk](), 0
    for i, n in enumerate(lengths):
        pcm = np.arange(at, at + n, dtype=np.float32)
        row = (Phoneme("a", at, at + n),)
        chunks.append(SpeechChunk(at, pcm, row, (Word(f"w{i}", at, at + n),), i == len(lengths) - 1, engine))
        at += n
    return chunks


@pytest.mark.parametrize("other", [[100, 200, 50], [92, 200, 50], [108, 200, 50], [100, 250]])
async def test_speech_goes_on_after_the_sample_that_came_last(other: list[int]) -> None:
    """Also where the second rendition is a little longer or shorter, or cut otherwise."""
    so_far, seen = SpeechSoFar(), list[SpeechChunk]()
    async for chunk in so_far.rest(stream(spoken([100, 200, 50])[:2])):
        seen.append(chunk)
    async for chunk in so_far.rest(stream(spoken(other))):
        seen.append(chunk)
    assert all(b.start == a.start + len(a.pcm) for a, b in zip(seen, seen[1:], strict=False)) and seen[-1].final
    assert np.array_equal(np.concatenate([c.pcm for c in seen]), np.arange(sum(other)))
    assert [w.text for c in seen for w in c.words][:2] == ["w0", "w1"]
    assert len({w.text for c in seen for w in c.words}) == sum(len(c.words) for c in seen)


async def test_a_providers_voice_is_gone_on_with_only_from_nothing() -> None:
    so_far = SpeechSoFar()
    so_far.check()
    assert len([c async for c in so_far.rest(stream(spoken([SPEECH_RATE, 5], "openai")[:1]))]) == 1
    with pytest.raises(SpeechEngineError, match=r"after 1.0 s"):
        so_far.check()

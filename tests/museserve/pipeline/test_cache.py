from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from configs.models import AppConfig, CacheConfig
from museserve.messages import AvatarRef, Fragment, Phoneme, SpeechChunk, SpeechRequest, Word
from museserve.pipeline.cache import UtteranceCache, recording, replay_speech, with_replay_head
from tests.fakes import INFO

ASKED = SpeechRequest("Tell me about yourself.")
AVATAR = AvatarRef("woman", "1")
SPEAKS = {"engine": "offline", "version": "1"}


def before(folder: Path, **over: object) -> UtteranceCache:
    return UtteranceCache(AppConfig.model_validate({"cache": {"uri": str(folder)}, **over}))


def chunks() -> list[SpeechChunk]:
    pcm = np.sin(np.arange(4_800) / 20).astype(np.float32)
    return [
        SpeechChunk(0, pcm, (Phoneme("", 0, 720), Phoneme("tʃ", 720, 4_800, 1)), (Word("Tell", 720, 4_800),), engine="fake"),
        SpeechChunk(4_800, pcm[:100], None, (Word("me", 4_800, 4_900, True),), final=True, engine="fake", notice="said"),
    ]


def test_speech_comes_back_as_it_was_to_sixteen_bits(tmp_path: Path) -> None:
    kept = before(tmp_path)
    keys = kept.keys(ASKED, SPEAKS, AVATAR, INFO, 5)
    assert kept.speech(keys) is None
    kept.keep_speech(keys, chunks())
    found = before(tmp_path).speech(keys)
    assert found is not None
    for old, new in zip(chunks(), found, strict=True):
        assert np.abs(old.pcm - new.pcm).max() < 1 / 32_000 and new.pcm.dtype == np.float32
        assert replace(old, pcm=None) == replace(new, pcm=None)  # type: ignore[arg-type]


def test_fragments_come_back_as_they_were(tmp_path: Path) -> None:
    kept = before(tmp_path)
    keys = kept.keys(ASKED, SPEAKS, AVATAR, INFO, 16)
    made = [Fragment(b"init moof", 0, 2, (Word("a", 0, 9),), head={"codecs": "c", "cached": "no"}), Fragment(b"moof", 2, 6, (), True, True)]
    kept.keep_film(keys, made)
    found = before(tmp_path).film(keys)
    assert found == made
    told = with_replay_head(made, 0.0)[0].head
    assert told is not None and told["cached"] == "segments" and told["codecs"] == "c" and list(told["timings_ms"]) == ["first_fragment"]


def test_keys_tell_apart_what_sounds_or_looks_different(tmp_path: Path) -> None:
    kept = before(tmp_path)
    base = kept.keys(ASKED, SPEAKS, AVATAR, INFO, 0)
    for other in (replace(ASKED, text="Else."), replace(ASKED, voice="onyx"), replace(ASKED, speed=1.0), replace(ASKED, language="ko")):
        assert kept.keys(other, SPEAKS, AVATAR, INFO, 0).speech != base.speech
    for speaks in ({**SPEAKS, "engine": "openai", "model": "x"}, {**SPEAKS, "version": "2"}):
        assert kept.keys(ASKED, speaks, AVATAR, INFO, 0).speech != base.speech
    for elsewhere in (
        kept.keys(ASKED, SPEAKS, AvatarRef("woman", "2"), INFO, 0),
        kept.keys(ASKED, SPEAKS, AVATAR, replace(INFO, version="2"), 0),
        kept.keys(ASKED, SPEAKS, AVATAR, INFO, 8),
        before(tmp_path, mux={"media": {"crf": 20}}).keys(ASKED, SPEAKS, AVATAR, INFO, 0),
    ):
        assert elsewhere.speech == base.speech and elsewhere.film != base.film
    assert before(tmp_path, mux={"lead_s": 1.0}, lipsync={"batch": {"wait_s": 0.1}}).keys(ASKED, SPEAKS, AVATAR, INFO, 0) == base


def test_fragments_are_kept_on_the_grid_only_and_recordings_not_at_all(tmp_path: Path) -> None:
    kept = before(tmp_path)
    assert kept.keys(ASKED, SPEAKS, AVATAR, INFO, 3).film is None
    assert kept.keys(None, SPEAKS, AVATAR, INFO, 0).speech is None


def test_a_cache_that_is_off_keeps_nothing(tmp_path: Path) -> None:
    off = UtteranceCache(AppConfig(cache=CacheConfig(enabled=False, uri=str(tmp_path))))
    keys = off.keys(ASKED, SPEAKS, AVATAR, INFO, 0)
    off.keep_speech(keys, chunks())
    assert off.speech(keys) is None and not list(tmp_path.iterdir())


async def test_only_a_whole_utterance_is_kept() -> None:
    kept: list[list[SpeechChunk]] = []

    async def source(count: int):  # type: ignore[no-untyped-def]
        for chunk in chunks()[:count]:
            yield chunk

    async for _ in recording(source(1), kept.append):
        pass
    assert not kept
    seen = [chunk async for chunk in recording(source(2), kept.append)]
    assert len(kept) == 1 and kept[0] == seen
    assert [chunk async for chunk in replay_speech(seen)] == seen


async def test_who_reads_no_further_than_the_last_chunk_keeps_it_too() -> None:
    kept: list[list[SpeechChunk]] = []

    async def source():  # type: ignore[no-untyped-def]
        for chunk in chunks():
            yield chunk

    speech = recording(source(), kept.append)
    async for chunk in speech:
        if chunk.final:
            break
    await speech.aclose()
    assert [len(made) for made in kept] == [len(chunks())]

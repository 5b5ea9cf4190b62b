from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from configs.models import AppConfig, CacheConfig
from museserve.messages import AvatarRef, Fragment, FragmentHead, Phoneme, SpeechChunk, SpeechInfo, SpeechRequest, Word
from museserve.pipeline.cache import UtteranceCache, recording, replay, replay_speech
from tests.fakes import INFO

REQUEST = SpeechRequest("Tell me about yourself.")
AVATAR = AvatarRef("woman", "1")
SPEAKS = SpeechInfo("offline", "configured", "1")


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
    keys = kept.keys(REQUEST, SPEAKS, AVATAR, INFO, 5)
    assert kept.speech(keys) is None
    kept.keep_speech(keys, chunks())
    found = before(tmp_path).speech(keys)
    assert found is not None
    for old, new in zip(chunks(), found, strict=True):
        assert np.abs(old.pcm - new.pcm).max() < 1 / 32_000 and new.pcm.dtype == np.float32
        assert replace(old, pcm=None) == replace(new, pcm=None)  # type: ignore[arg-type]


def test_fragments_come_back_as_they_were(tmp_path: Path) -> None:
    kept = before(tmp_path)
    keys = kept.keys(REQUEST, SPEAKS, AVATAR, INFO, 16)
    head = FragmentHead("c", {"tts": 1.5}, "fake", "said")
    made = [Fragment(b"init moof", 0, 2, (Word("a", 0, 9),), None, head), Fragment(b"moof", 2, 6, (), 8)]
    kept.keep_fragments(keys, made)
    found = before(tmp_path).fragments(keys)
    assert found == made and found[-1].final and not found[0].words_final
    told = replay(made, 0.0)[0].head
    assert told is not None and told.cached == "segments" and told.codecs == "c" and list(told.timings_ms) == ["first_fragment"]


def test_keys_tell_apart_what_sounds_or_looks_different(tmp_path: Path) -> None:
    kept = before(tmp_path)
    base = kept.keys(REQUEST, SPEAKS, AVATAR, INFO, 0)
    for other in (replace(REQUEST, text="Else."), replace(REQUEST, voice="onyx"), replace(REQUEST, speed=1.0), replace(REQUEST, language="ko")):
        assert kept.keys(other, SPEAKS, AVATAR, INFO, 0).speech != base.speech
    for speaks in (replace(SPEAKS, engine="openai", model="x"), replace(SPEAKS, version="2")):
        assert kept.keys(REQUEST, speaks, AVATAR, INFO, 0).speech != base.speech
    for elsewhere in (
        kept.keys(REQUEST, SPEAKS, AvatarRef("woman", "2"), INFO, 0),
        kept.keys(REQUEST, SPEAKS, AVATAR, replace(INFO, version="2"), 0),
        kept.keys(REQUEST, SPEAKS, AVATAR, INFO, 8),
        before(tmp_path, mux={"media": {"crf": 21}}).keys(REQUEST, SPEAKS, AVATAR, INFO, 0),
    ):
        assert elsewhere.speech == base.speech and elsewhere.fragments != base.fragments
    assert before(tmp_path, mux={"lead_s": 1.0}, lipsync={"batch": {"wait_s": 0.1}}).keys(REQUEST, SPEAKS, AVATAR, INFO, 0) == base


def test_fragments_are_kept_on_the_grid_only(tmp_path: Path) -> None:
    kept = before(tmp_path)
    assert kept.keys(REQUEST, SPEAKS, AVATAR, INFO, 3).fragments is None


def test_fragments_are_kept_in_the_full_rendition_only_and_their_speech_serves_all(tmp_path: Path) -> None:
    kept = before(tmp_path)
    full, less = (kept.keys(REQUEST, SPEAKS, AVATAR, INFO, 8, rendition=rendition) for rendition in (0, 1))
    assert full.fragments is not None and less.fragments is None and less.speech == full.speech


def test_a_cache_can_be_off(tmp_path: Path) -> None:
    assert UtteranceCache.of(AppConfig(cache=CacheConfig(enabled=False, uri=str(tmp_path)))) is None
    assert UtteranceCache.of(AppConfig(cache=CacheConfig(uri=str(tmp_path)))) is not None


async def test_only_a_whole_utterance_is_kept() -> None:
    kept: list[list[SpeechChunk]] = []

    async def source(count: int):
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

    async def source():
        for chunk in chunks():
            yield chunk

    speech = recording(source(), kept.append)
    async for chunk in speech:
        if chunk.final:
            break
    await speech.aclose()
    assert [len(made) for made in kept] == [len(chunks())]


def test_kept_fragments_are_replayed_from_any_segment_on() -> None:
    words = [Word(name, 0, 9) for name in "abcd"]
    data = [b"....ftyp....moof", b"....moof", b"2", b"3"]
    spans = [(0, 2), (2, 6), (8, 8), (16, 8)]
    made = [Fragment(d, first, n, (w,), 24) for d, (first, n), w in zip(data, spans, words, strict=True)]
    made[0] = replace(made[0], head=FragmentHead("c", {}))
    rest = replay(made, 0.0, 16)
    assert [(f.first_frame, f.words) for f in rest] == [(16, tuple(words))] and rest[0].final
    assert rest[0].data == b"....ftyp3" and rest[0].head is not None and rest[0].head.cached == "segments"
    for beyond in (24, 40):
        (only,) = replay(made, 0.0, beyond)
        assert only.final and only.n_frames == 0 and only.data == b"....ftyp" and only.words == tuple(words) and only.head is not None

"""What was filmed before is there at once: the speech of a text, and its finished fragments on one phase of an
avatar's idle loop.

Two things are kept, because they differ in what they depend on. Speech (sound, phonemes and word times) does not depend on the avatar or on the
phase where it joins the idle loop: it is kept for every text, and only drawing and encoding remain. Fragments can be sent as they are, but only where
the phase is the same: they are kept for a text that comes a second time, or is prerendered, and for phases on the
grid of segments.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from configs.models import AppConfig
from museserve.media.label import Label
from museserve.messages import AvatarRef, EngineInfo, Fragment, FragmentHead, Phoneme, SpeechChunk, SpeechInfo, SpeechRequest, Word
from museserve.runtime.blob_store import BlobStore, blob_key
from museserve.runtime.versions import stamp
from museserve.timebase import SEGMENT_FRAMES

FORMAT = 3  # of the blobs
VERSION = 4  # of films: raise it with any change to how the same speech and crops are composed or encoded
KEPT_LIBRARIES = ("av", "opencv-python")  # what encoded and composed them
Chunks = AsyncGenerator[SpeechChunk, None]
LENGTH = struct.Struct(">I")
FULL_SCALE = 32_767

# Settings that change nothing that is heard or seen, or that are keys by another name.
SPEECH_EXCEPT: Any = {"openai": {"api_key", "timeout_s", "max_retries"}, "threads": True, "on_openai_error": True, "engine": True, "lexicon": True}
LIPSYNC_EXCEPT: Any = {"batch": True, "avatar_cache_bytes": True, "engine": True, "animator": {"threads"}}


@dataclass(frozen=True)
class CacheKeys:
    """fragments: None where they are not kept. tenant: whose they are."""

    speech: str
    fragments: str | None
    tenant: str = ""


class UtteranceCache:
    """The cache of finished utterances. Its calls read and write files: keep them off an event loop.

    Args:
        config: the whole configuration, because what it says of voices, lips and media is part of the keys.
    """

    def __init__(self, config: AppConfig) -> None:
        cache = config.cache
        ages = {"kept_s": cache.kept_hours * 3_600, "long_s": cache.prerendered_hours * 3_600}
        self._store = BlobStore(cache.place, cache.max_bytes, cache.memory_bytes, own=not cache.uri, **ages)
        self._speech_settings = blob_key(FORMAT, config.speech.model_dump_json(exclude=SPEECH_EXCEPT))
        lipsync = config.lipsync.model_dump_json(exclude=LIPSYNC_EXCEPT)
        media, pieces = config.mux.media.model_dump_json(), config.mux.first_pieces
        self._film_settings = blob_key(FORMAT, lipsync, media, pieces, stamp(VERSION, *KEPT_LIBRARIES))

    @classmethod
    def of(cls, config: AppConfig) -> UtteranceCache | None:
        """The configured cache; None when it is off."""
        return cls(config) if config.cache.enabled else None

    def keys(
        self,
        request: SpeechRequest,
        speech: SpeechInfo,
        avatar: AvatarRef,
        lipsync: EngineInfo,
        phase: int,
        label: Label | None = None,
        tenant: str = "",
        rendition: int = 0,
    ) -> CacheKeys:
        """speech, lipsync: what runs, as the engines tell it. phase: the idle frame that the utterance begins on.

        label: what is drawn on its pictures.
        tenant: whose entries they are. Others make their own, so that nobody can tell by the time what another one has said.
        rendition: only the full one (0) is kept; the speech of all is the same.
        """
        text = json.dumps(asdict(request), sort_keys=True)
        spoken = blob_key(self._speech_settings, speech.engine, speech.model, speech.version, text, *([tenant] if tenant else []))
        if phase % SEGMENT_FRAMES or rendition:
            return CacheKeys(spoken, None, tenant)
        filmed = blob_key(
            self._film_settings, spoken, avatar.id, avatar.version, lipsync.name, lipsync.version, phase, *(() if label is None else (label,))
        )
        return CacheKeys(spoken, filmed, tenant)

    def speech(self, keys: CacheKeys) -> list[SpeechChunk] | None:
        blob = self._store.get(keys.speech, group=keys.tenant)
        return None if blob is None else unpack_speech(blob)

    def fragments(self, keys: CacheKeys) -> list[Fragment] | None:
        blob = None if keys.fragments is None else self._store.get(keys.fragments, group=keys.tenant)
        return None if blob is None else unpack_fragments(blob)

    def keep_speech(self, keys: CacheKeys, chunks: list[SpeechChunk]) -> None:
        self._store.put(keys.speech, pack_speech(chunks), group=keys.tenant)

    def keep_fragments(self, keys: CacheKeys, fragments: list[Fragment], *, long: bool = False) -> None:
        """long: as long as what was prerendered."""
        if keys.fragments is not None:
            self._store.put(keys.fragments, pack_fragments(fragments), long=long, group=keys.tenant)

    def keep_longer(self, keys: CacheKeys) -> None:
        """Fragments that are there, as long as what was prerendered now."""
        if keys.fragments is not None:
            self._store.lengthen(keys.fragments, group=keys.tenant)

    def clear(self, tenant: str) -> None:
        """Remove everything that is kept of a tenant, captions too. Raises OSError."""
        self._store.clear(tenant)

    def watch(self) -> None:
        """See to it, from a thread, that what is past its end goes."""
        self._store.watch()


async def recording(chunks: Chunks, keep: Callable[[list[SpeechChunk]], None]) -> Chunks:
    """The chunks as they come; `keep` is called with all of them once the last is there: who reads it need not ask for another."""
    seen: list[SpeechChunk] = []
    try:
        async for chunk in chunks:
            seen.append(chunk)
            if chunk.final:
                keep(seen)
            yield chunk
    finally:
        await chunks.aclose()


async def replay_speech(chunks: list[SpeechChunk]) -> AsyncIterator[SpeechChunk]:
    for chunk in chunks:
        yield chunk


def joins(fragments: list[Fragment], frame: int) -> bool:
    """Whether kept fragments can be shown from `frame` on: they begin with a key frame there, or are over by then."""
    return all(f.key for f in fragments if f.first_frame == frame and f.n_frames)


def replay(fragments: list[Fragment], began: float, first_frame: int = 0) -> list[Fragment]:
    """Kept fragments from `first_frame` on, with a head that tells the truth about this time.

    began: `time.perf_counter()` of the request. first_frame: as in `VideoRequest`.
    """
    head, last = fragments[0].head, fragments[-1]
    assert head is not None
    head = replace(head, timings_ms={"first_fragment": round((time.perf_counter() - began) * 1e3, 1)}, cached="segments")
    if first_frame == 0:
        return [replace(fragments[0], head=head), *fragments[1:]]
    init = fragments[0].data[: fragments[0].data.index(b"moof") - 4]  # before it stands the size of its box
    left = [f for f in fragments if f.first_frame >= first_frame] or [Fragment(b"", last.first_frame + last.n_frames, 0, (), last.total_frames)]
    words = tuple(word for f in fragments if f.first_frame <= left[0].first_frame for word in f.words)
    return [replace(left[0], data=init + left[0].data, words=words, head=head), *left[1:]]


def pack_speech(chunks: list[SpeechChunk]) -> bytes:
    """Sound as 16 bits, the rest as JSON."""
    rows = [
        [
            len(chunk.pcm),
            chunk.start,
            None if chunk.phonemes is None else [(p.symbol, p.start, p.end, p.stress) for p in chunk.phonemes],
            _plain(chunk.words),
            chunk.final,
            chunk.engine,
            chunk.notice,
        ]
        for chunk in chunks
    ]
    return _pack(rows, [np.round(np.clip(chunk.pcm, -1, 1) * FULL_SCALE).astype("<i2").tobytes() for chunk in chunks])


def unpack_speech(blob: bytes) -> list[SpeechChunk]:
    chunks = []
    for part, (start, phonemes, words, *rest) in _unpack(blob, item_bytes=2):
        pcm = np.divide(np.frombuffer(part, "<i2"), np.float32(FULL_SCALE), dtype=np.float32)
        known = None if phonemes is None else tuple(Phoneme(*p) for p in phonemes)
        chunks.append(SpeechChunk(start, pcm, known, _words(words), *rest))
    return chunks


def pack_fragments(fragments: list[Fragment]) -> bytes:
    rows = [[len(f.data), f.first_frame, f.n_frames, _plain(f.words), f.total_frames, f.head and asdict(f.head), f.key] for f in fragments]
    return _pack(rows, [f.data for f in fragments])


def unpack_fragments(blob: bytes) -> list[Fragment]:
    fragments = []
    for part, (first_frame, n_frames, words, total_frames, head, key) in _unpack(blob):
        known = None if head is None else FragmentHead(**head)
        fragments.append(Fragment(bytes(part), first_frame, n_frames, _words(words), total_frames, known, key))
    return fragments


def _plain(words: tuple[Word, ...]) -> list[tuple[str, int, int, bool]]:
    return [(w.text, w.start, w.end, w.estimated) for w in words]


def _words(plain: list[Any]) -> tuple[Word, ...]:
    return tuple(Word(*word) for word in plain)


def _pack(rows: list[Any], parts: list[bytes]) -> bytes:
    index = json.dumps(rows).encode()
    return b"".join([LENGTH.pack(len(index)), index, *parts])


def _unpack(blob: bytes, item_bytes: int = 1) -> Iterator[tuple[memoryview, list[Any]]]:
    """Each part with its row, whose first column was its length in items."""
    (length,) = LENGTH.unpack_from(blob)
    end = LENGTH.size + length
    for n, *row in json.loads(blob[LENGTH.size : end]):
        at, end = end, end + n * item_bytes
        yield memoryview(blob)[at:end], row

"""What was asked before is there at once: the speech of a text, and its finished fragments on one phase of an avatar's idle loop.

Two things are kept, because they differ in what they depend on. Speech (sound, phonemes and word times) does not depend on the avatar or on the
phase where it joins the idle loop: it is kept for every text, and only drawing and encoding remain. Fragments can be sent as they are, but only where
the phase is the same: they are kept for a text that is asked again, or prerendered, and for phases on the grid of segments.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configs.models import AppConfig, cache_dir
from museserve.messages import AvatarRef, EngineInfo, Fragment, Phoneme, SpeechChunk, SpeechRequest, Word
from museserve.runtime.blob_store import BlobStore, blob_key
from museserve.runtime.versions import stamp
from museserve.timebase import SEGMENT_FRAMES

FORMAT = 1  # of the blobs
VERSION = 1  # of films: raise it with any change to how the same speech and crops are composed or encoded
KEPT_LIBRARIES = ("av", "opencv-python")  # what encoded and composed them
LENGTH = struct.Struct(">I")
FULL_SCALE = 32_767

# Settings that change nothing that is heard or seen, or that are keys by another name.
SPEECH_EXCEPT: Any = {"openai": {"api_key", "timeout_s", "max_retries"}, "threads": True, "on_openai_error": True, "engine": True, "lexicon": True}
LIPS_EXCEPT: Any = {"batch": True, "avatar_cache_bytes": True, "engine": True, "animator": {"threads"}}


@dataclass(frozen=True)
class CacheKeys:
    """speech: None for recordings, which have no text. film: None where fragments are not kept."""

    speech: str | None
    film: str | None


class UtteranceCache:
    """The cache of finished utterances. Its calls read and write files: keep them off an event loop.

    Args:
        config: the whole configuration, because what it says of voices, lips and media is part of the keys.
    """

    def __init__(self, config: AppConfig) -> None:
        self._config = config
        self._store: BlobStore | None = None
        if config.cache.enabled:
            self._store = BlobStore(config.cache.uri or str(Path(cache_dir()) / "utterances"), config.cache.max_bytes, config.cache.memory_bytes)
        self._speaks = blob_key(FORMAT, config.speech.model_dump_json(exclude=SPEECH_EXCEPT))
        lips = config.lipsync.model_dump_json(exclude=LIPS_EXCEPT)
        self._films = blob_key(FORMAT, lips, config.mux.media.model_dump_json(), config.mux.first_pieces, stamp(VERSION, *KEPT_LIBRARIES))

    @property
    def enabled(self) -> bool:
        return self._store is not None

    def keys(self, speech: SpeechRequest | None, speaks: dict[str, Any], avatar: AvatarRef, lips: EngineInfo, phase: int) -> CacheKeys:
        """speaks: what speaks, as the TTS tells it; lips: the lip-sync engine."""
        if self._store is None or speech is None:
            return CacheKeys(None, None)
        said = blob_key(self._speaks, speaks["engine"], speaks.get("model"), speaks["version"], json.dumps(asdict(speech), sort_keys=True))
        film = blob_key(self._films, said, avatar.id, avatar.version, lips.name, lips.version, phase)
        return CacheKeys(said, film if phase % SEGMENT_FRAMES == 0 else None)

    def speech(self, keys: CacheKeys) -> list[SpeechChunk] | None:
        blob = self._store.get(keys.speech) if self._store is not None and keys.speech is not None else None
        return None if blob is None else unpack_speech(blob)

    def film(self, keys: CacheKeys) -> list[Fragment] | None:
        blob = self._store.get(keys.film) if self._store is not None and keys.film is not None else None
        return None if blob is None else unpack_film(blob)

    def keep_speech(self, keys: CacheKeys, chunks: list[SpeechChunk]) -> None:
        if self._store is not None and keys.speech is not None:
            self._store.put(keys.speech, pack_speech(chunks))

    def keep_film(self, keys: CacheKeys, fragments: list[Fragment]) -> None:
        if self._store is not None and keys.film is not None:
            self._store.put(keys.film, pack_film(fragments))


async def recording(chunks: AsyncGenerator[SpeechChunk, None], keep: Callable[[list[SpeechChunk]], None]) -> AsyncGenerator[SpeechChunk, None]:
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


def with_replay_head(fragments: list[Fragment], began: float) -> list[Fragment]:
    """Kept fragments with a head that tells the truth about this time."""
    took = {"first_fragment": round((time.perf_counter() - began) * 1e3, 1)}
    head = {**(fragments[0].head or {}), "timings_ms": took, "cached": "segments"}
    first = fragments[0]
    return [Fragment(first.data, first.first_frame, first.n_frames, first.words, first.words_final, first.final, head), *fragments[1:]]


def pack_speech(chunks: list[SpeechChunk]) -> bytes:
    """Sound as 16 bits, the rest as JSON."""
    head = [
        {
            "start": chunk.start,
            "samples": len(chunk.pcm),
            "phonemes": None if chunk.phonemes is None else [(p.symbol, p.start, p.end, p.stress) for p in chunk.phonemes],
            "words": _plain(chunk.words),
            "final": chunk.final,
            "engine": chunk.engine,
            "notice": chunk.notice,
        }
        for chunk in chunks
    ]
    return _pack(head, [np.round(np.clip(chunk.pcm, -1, 1) * FULL_SCALE).astype("<i2").tobytes() for chunk in chunks])


def unpack_speech(blob: bytes) -> list[SpeechChunk]:
    head, body = _unpack(blob)
    pcm = np.divide(np.frombuffer(body, "<i2"), np.float32(FULL_SCALE), dtype=np.float32)
    chunks, at = [], 0
    for kept in head:
        phonemes = None if kept["phonemes"] is None else tuple(Phoneme(*p) for p in kept["phonemes"])
        sound = pcm[at : at + kept["samples"]]
        chunks.append(SpeechChunk(kept["start"], sound, phonemes, _words(kept["words"]), kept["final"], kept["engine"], kept["notice"]))
        at += kept["samples"]
    return chunks


def pack_film(fragments: list[Fragment]) -> bytes:
    head = [
        {
            "bytes": len(f.data),
            "first_frame": f.first_frame,
            "n_frames": f.n_frames,
            "words": _plain(f.words),
            "words_final": f.words_final,
            "final": f.final,
            "head": f.head,
        }
        for f in fragments
    ]
    return _pack(head, [f.data for f in fragments])


def unpack_film(blob: bytes) -> list[Fragment]:
    head, body = _unpack(blob)
    fragments, at = [], 0
    for kept in head:
        data = bytes(body[at : at + kept["bytes"]])
        words = _words(kept["words"])
        fragments.append(Fragment(data, kept["first_frame"], kept["n_frames"], words, kept["words_final"], kept["final"], kept["head"]))
        at += kept["bytes"]
    return fragments


def _plain(words: tuple[Word, ...]) -> list[tuple[str, int, int, bool]]:
    return [(w.text, w.start, w.end, w.estimated) for w in words]


def _words(plain: list[Any]) -> tuple[Word, ...]:
    return tuple(Word(*word) for word in plain)


def _pack(head: list[dict[str, Any]], parts: list[bytes]) -> bytes:
    index = json.dumps(head).encode()
    return b"".join([LENGTH.pack(len(index)), index, *parts])


def _unpack(blob: bytes) -> tuple[list[dict[str, Any]], memoryview]:
    (length,) = LENGTH.unpack_from(blob)
    return json.loads(blob[LENGTH.size : LENGTH.size + length]), memoryview(blob)[LENGTH.size + length :]

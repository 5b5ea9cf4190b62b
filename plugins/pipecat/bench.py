"""A talk of twelve utterances, four of them interrupted: what of it comes out of the pipeline, and at the other end of WebRTC.

    python bench.py --url http://127.0.0.1:8001 [--rounds 10] [--json FILE]

A round takes about a minute. The talk is the same for the same seed; needs `pipecat-ai[webrtc]`. Offsets are those of contents, not of time stamps: a
picture that a peer received is looked for among those that went into the transport, and its sound in the received sound. Lips are compared with those
of the same sound over HTTP.
"""

from __future__ import annotations

import asyncio
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from loguru import logger
from museserve_client import Client
from numpy.typing import NDArray
from pipecat.frames.frames import InterruptionFrame, OutputImageRawFrame, TTSAudioRawFrame
from pipecat_museserve import MuseserveVideoService

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE / "tests")]

from bot import Bot, talking  # noqa: E402
from peer import Received, received  # noqa: E402

from plugins.bench_common import (  # noqa: E402
    CUT_AFTER_S,
    INTERRUPTED,
    MOUTH,
    RATE,
    SENTENCES,
    UTTERANCES,
    arrivals,
    lips_of,
    lips_off,
    ms,
    openness,
    options,
    pcm_of,
    rss_mb,
    tell,
)
from tests.peer_media import PEER_RATE, last_loud  # noqa: E402

NEAR = 12  # frames to either side among which a picture is looked for


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--patience", type=float, default=1.5, help="seconds that sound waits for its pictures")
    parser.add_argument("--chunks", type=int, default=4, help="audio_out_10ms_chunks of the transport")
    asked = parser.parse_args()
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    tell(asyncio.run(bench(asked.url, asked.rounds, asked.seed, asked.patience, asked.chunks)), asked.json)


async def bench(url: str, rounds: int, seed: int, patience_s: float, chunks: int) -> dict[str, Any]:
    async with Client(url) as client:
        spoken = [await pcm_of(client, sentence) for sentence in SENTENCES]
        lips = [await lips_of(client, pcm) for pcm in spoken]
    service = MuseserveVideoService(url=url, patience_s=patience_s)
    every: list[dict[str, Any]] = []
    memory: list[float] = []
    async with received(hold_sound=False, chunks=chunks) as (transport, got), talking(service, transport.output(), small=True) as bot:
        await bot.until(lambda: len(got.pictures) > 50)
        for i in range(rounds):
            every.append(await one_round(bot, got, service, spoken, lips, random.Random(seed + i)))
            memory.append(round(rss_mb(), 1))
    return {"rounds": every, "memory_mb": memory, "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)}


async def one_round(
    bot: Bot, got: Received, service: MuseserveVideoService, spoken: list[bytes], lips: list[NDArray[np.float64]], dice: random.Random
) -> dict[str, Any]:
    cut = set(dice.sample(range(UTTERANCES), INTERRUPTED))
    bot.forget()
    got.pictures.clear()
    got.sound.clear()
    began, first_picture, silence, stopped_off, contexts = time.perf_counter(), [], [], [], []
    for i in range(UTTERANCES):
        which = dice.randrange(len(spoken))
        context, pcm = f"{began:.3f}-{i}", spoken[which]
        contexts.append((context, which, i in cut))
        asked = time.perf_counter()
        await bot.say(pcm, context)
        await bot.until(lambda context=context: bot.sound(context), 30)
        first_picture.append(first_of(bot, context) - asked)
        if i in cut:
            await bot.until(lambda context=context: len(bot.sound(context)) > CUT_AFTER_S * 2 * RATE, 30)
            interrupted = time.perf_counter()
            await bot.send(InterruptionFrame())
            await asyncio.sleep(1.0)
            silence.append(max(0.0, last_loud(got.sound) - interrupted))
        else:
            await bot.until(lambda context=context: bot.stopped(context), 60)
            stopped_off.append(bot.stopped_at(context) - first_of(bot, context) - len(pcm) / 2 / RATE)
            await asyncio.sleep(dice.uniform(0.5, 1.5))
    took = time.perf_counter() - began
    offsets, lip_offsets, after, gaps = [], [], 0, 0
    for context, which, was_cut in contexts:
        offsets += offsets_at_peer(bot, got, context, spoken[which])
        if not was_cut:
            lip_offsets.append(offset_of_lips(bot, context, lips[which]))
            gaps += bot.sound(context) != spoken[which]
        after += sound_after_cut(bot, context) if was_cut else 0
    seen = [picture for _, picture in got.pictures]
    distinct = 1 + sum(not np.array_equal(a, b) for a, b in zip(seen, seen[1:], strict=False))
    return {
        "seconds": round(took, 1),
        "pipeline": {
            "pictures_per_s": round(len(bot.pictures) / took, 2),
            "first_picture_ms": ms(first_picture, 50, 95),
            "lips_to_sound_ms": ms(lip_offsets, 50, 95),
            "stopped_off_ms": ms(stopped_off, 50, 95),
            "contexts_not_whole": gaps,
            "sound_after_interruption": after,
            "errors": [frame.error for frame in bot.errors],
        },
        "webrtc": {
            "pictures_per_s": round(len(seen) / took, 2),
            "distinct_per_s": round(distinct / took, 2),
            "picture_after_sound_ms": ms(offsets, 5, 50, 95),
            "absolute_offset_ms": ms([abs(one) for one in offsets], 50, 95),
            "compared": len(offsets),
            "interruption_to_silence_ms": ms(silence, 50, 100),
        },
        "stats": {name: getattr(service.stats, name) for name in ("contexts", "interrupted", "without_lips", "stalls", "reconnects")},
    }


def first_of(bot: Bot, context: str) -> float:
    return next(at for at, frame in bot.timed if isinstance(frame, TTSAudioRawFrame) and frame.context_id == context)


def shown_for(bot: Bot, context: str) -> list[tuple[int, NDArray[np.uint8]]]:
    """Pictures of a context by the samples that went before each."""
    places: list[tuple[int, NDArray[np.uint8]]] = []
    sample, last = 0, None
    for frame in bot.frames:
        if isinstance(frame, OutputImageRawFrame):
            last = frame
        elif isinstance(frame, TTSAudioRawFrame) and frame.context_id == context and last is not None:
            places.append((sample, np.frombuffer(last.image, np.uint8).reshape(last.size[::-1])))
            sample, last = sample + frame.num_frames, None
    return places


def offset_of_lips(bot: Bot, context: str, wanted: NDArray[np.float64]) -> float:
    """By how much the lips that came out are behind those of the film, in seconds of sound."""
    places = shown_for(bot, context)
    opened = np.array([openness(picture) for _, picture in places])
    return lips_off(np.array([sample / RATE for sample, _ in places]), opened, wanted)


def offsets_at_peer(bot: Bot, got: Received, context: str, pcm: bytes) -> list[float]:
    """Of each picture that came for the first time: by how much it came behind the sound that it was drawn for."""
    places = shown_for(bot, context)
    of_it = [at for at, frame in bot.timed if isinstance(frame, TTSAudioRawFrame) and frame.context_id == context]
    arrived = arrivals(pcm, [(came, samples) for came, samples in got.sound if of_it[0] - 0.1 < came < of_it[-1] + 1.0])
    if not places or not arrived:
        return []
    mouths = np.stack([picture.astype(np.int16) for _, picture in places])
    offsets, seen = [], set()
    begin, end = arrived[0][1] - 1.0, arrived[-1][1] + 1.0
    for came, picture in got.pictures:
        if not begin < came < end:
            continue
        heard = np.interp(came, [at for _, at in arrived], [sample for sample, _ in arrived])
        near = int(heard * 25 / PEER_RATE)
        first, last = max(0, near - NEAR), min(len(places), near + NEAR + 1)
        if first >= last:
            continue
        far = np.abs(mouths[first:last, MOUTH[0], MOUTH[1]] - picture[MOUTH].astype(np.int16)).mean(axis=(1, 2))
        k = first + int(far.argmin())
        sample = places[k][0] * PEER_RATE // RATE
        if k in seen or far.min() > 6 or not arrived[0][0] <= sample <= arrived[-1][0]:
            continue
        seen.add(k)
        offsets.append(came - float(np.interp(sample, [one for one, _ in arrived], [at for _, at in arrived])))
    return offsets


def sound_after_cut(bot: Bot, context: str) -> int:
    """Frames of it behind the interruption."""
    frames = bot.frames
    first = next(i for i, frame in enumerate(frames) if isinstance(frame, TTSAudioRawFrame) and frame.context_id == context)
    cut = next(i for i, frame in enumerate(frames) if i > first and isinstance(frame, InterruptionFrame))
    return sum(isinstance(frame, TTSAudioRawFrame) and frame.context_id == context for frame in frames[cut:])


if __name__ == "__main__":
    main()

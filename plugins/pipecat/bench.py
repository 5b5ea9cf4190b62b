"""A talk of twelve utterances, four of them interrupted: what of it comes out of the pipeline, and at the other end of WebRTC.

    python bench.py --url http://127.0.0.1:8001 [--rounds 10] [--json FILE]

A round takes about a minute. The talk is the same for the same seed; needs `pipecat-ai[webrtc]`. Offsets are those of contents, not of time stamps: a
picture that a peer received is looked for among those that went into the transport, and its sound in the received sound. Lips are compared with those
of the same sound over HTTP.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import random
import resource
import struct
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
from loguru import logger
from museserve_client import Client
from numpy.typing import NDArray
from pipecat.frames.frames import InterruptionFrame, OutputImageRawFrame, TTSAudioRawFrame
from pipecat_museserve import MuseserveVideoService

sys.path.insert(0, str(Path(__file__).resolve().parent / "tests"))

from bot import RATE, Bot, talking  # noqa: E402
from peer import PEER_RATE, Received, at_48_khz, found, received  # noqa: E402

SENTENCES = (
    "Tell me about a project that you are proud of.",
    "What made it hard, and who was in the team with you?",
    "How would you explain it to somebody who has never written software?",
    "Good. Let us talk about something else for a while.",
    "When did you last change your mind about something important?",
    "Thank you, that is all that I wanted to know today.",
)
UTTERANCES, INTERRUPTED = 12, 4
CUT_AFTER_S = 1.3  # of its sound
WINDOW = PEER_RATE // 4
NEAR = 12  # frames to either side among which a picture is looked for
MOUTH = (slice(64, 100), slice(44, 84))  # of 512 * 512, each fourth line and column


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--url", default="http://127.0.0.1:8001")
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--patience", type=float, default=1.5, help="seconds that sound waits for its pictures")
    options.add_argument("--chunks", type=int, default=4, help="audio_out_10ms_chunks of the transport")
    options.add_argument("--json", type=Path)
    asked = options.parse_args()
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    told = asyncio.run(bench(asked.url, asked.rounds, asked.seed, asked.patience, asked.chunks))
    print(json.dumps(told, indent=1))
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=1) + "\n")


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


async def pcm_of(client: Client, text: str) -> bytes:
    return b"".join([piece async for piece in client.speak(text, format="pcm")])


async def lips_of(client: Client, pcm: bytes) -> NDArray[np.float64]:
    """How open the mouth is in each frame of a sound's film."""
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(pcm), b"WAVE", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16, b"data", len(pcm))
    async with client.stream(audio=head + pcm) as video:
        film = b"".join([piece async for piece in video])
    with av.open(io.BytesIO(film)) as container:
        return np.array([openness(frame.to_ndarray(format="gray")[::4, ::4]) for frame in container.decode(video=0)])


def openness(luma: NDArray[np.uint8]) -> float:
    """Of the mouth: how much of its place is dark."""
    mouth = luma[MOUTH].astype(float)
    return float((mouth < np.percentile(luma, 12)).mean())


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


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
            silence.append(max(0.0, got.last_loud() - interrupted))
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


def ms(seconds: list[float], *percentiles: int) -> dict[str, float]:
    return {f"p{one}": round(1_000 * float(np.percentile(seconds, one)), 1) for one in percentiles} if seconds else {}


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
    lips = np.array([openness(picture) for _, picture in places])
    at = np.array([sample / RATE for sample, _ in places])
    shifts = np.arange(-0.2, 0.2001, 0.01)
    film = np.arange(len(wanted)) / 25
    alike = [np.corrcoef(lips, np.interp(at - shift, film, wanted))[0, 1] for shift in shifts]
    return abs(float(shifts[int(np.argmax(alike))]))


def offsets_at_peer(bot: Bot, got: Received, context: str, pcm: bytes) -> list[float]:
    """Of each picture that came for the first time: by how much it came behind the sound that it was drawn for."""
    places = shown_for(bot, context)
    of_it = [at for at, frame in bot.timed if isinstance(frame, TTSAudioRawFrame) and frame.context_id == context]
    arrived = sound_arrivals(got, pcm, of_it[0] - 0.1, of_it[-1] + 1.0)
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


def sound_arrivals(got: Received, pcm: bytes, begin: float, end: float) -> list[tuple[int, float]]:
    """Samples of a sound and when each came, every quarter of a second of it that is loud."""
    there = [(came, samples) for came, samples in got.sound if begin < came < end]
    if not there:
        return []
    wanted, sound = at_48_khz(pcm), np.concatenate([samples for _, samples in there])
    starts = np.cumsum([0, *(len(samples) for _, samples in there)])
    arrivals: list[tuple[int, float]] = []
    for at in range(0, len(wanted) - WINDOW, WINDOW):
        if np.abs(wanted[at : at + WINDOW]).max() < 1_000:
            continue
        place, alike = found(wanted[at : at + WINDOW], sound)
        if alike > 0.8:
            i = int(np.searchsorted(starts, place, "right")) - 1
            arrivals.append((at, there[i][0] + (place - int(starts[i])) / PEER_RATE))
    return [one for i, one in enumerate(arrivals) if not i or one[1] > arrivals[i - 1][1]]


def sound_after_cut(bot: Bot, context: str) -> int:
    """Frames of it behind the interruption."""
    frames = bot.frames
    first = next(i for i, frame in enumerate(frames) if isinstance(frame, TTSAudioRawFrame) and frame.context_id == context)
    cut = next(i for i, frame in enumerate(frames) if i > first and isinstance(frame, InterruptionFrame))
    return sum(isinstance(frame, TTSAudioRawFrame) and frame.context_id == context for frame in frames[cut:])


if __name__ == "__main__":
    main()

"""A talk through the real runner, synchronizer and native tracks, measured on what comes out of the tracks. Prints figures, writes JSON.

    python bench.py [--url http://127.0.0.1:8001] [--utterances 12] [--slot 5] [--minutes 0] [--json FILE]

Every `slot` seconds the agent says something of two to four seconds, faster than it is heard, as voices do; every third time it is interrupted.

pictures_per_s: that came out.
av_offset_ms: of each speaking picture that came out, recognised by its content, from when it came to when the sample of sound came for which it was
    drawn, found by correlation; positive = the picture is late. lips_offset_ms: the same, of the opening of the mouth over the whole of an utterance.
first_picture_ms: first sound in to first speaking picture out.
interrupted_to_silence_ms: to the last sample above silence. late_pictures: of an utterance, later than 80 ms after its interruption.
position_error_ms: what the agent was told, less what came out.
--minutes: the talk goes on for so long, and memory is noted (MB at a third of it, and at the end).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from livekit import rtc
from livekit.agents.voice import avatar, io
from livekit.plugins.museserve import AvatarRunner, VideoGenerator
from livekit.plugins.museserve.generator import Frame
from museserve_client import Client
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE / "tests")]

from room import Room, Watched, watching  # noqa: E402

from plugins.bench_common import RATE, SENTENCES, UTTERANCES, openness, options, pcm_of, percentiles, rss_mb, tell  # noqa: E402

INTERRUPT_S = (0.7, 1.0, 1.3, 1.6)
LATE_S = 0.08
SEARCH_S = 0.15
PIECE_S = 0.2


@dataclass
class Said:
    """One utterance. Times of perf_counter. drawn: content of each speaking picture -> the sample that it was drawn for."""

    pcm: NDArray[np.int16]
    pushed: float = 0.0
    cut: float | None = None
    drawn: dict[bytes, int] = field(default_factory=dict)
    shown: list[tuple[int, float]] = field(default_factory=list)  # sample, opening
    started: list[float] = field(default_factory=list)
    finished: list[tuple[float, io.PlaybackFinishedEvent]] = field(default_factory=list)


class Tapped(VideoGenerator):
    """Notes which picture was drawn for which sound, as it is handed over."""

    said: Said

    def __aiter__(self) -> AsyncIterator[Frame]:
        return self._tapped()

    async def _tapped(self) -> AsyncIterator[Frame]:
        async for frame in super().__aiter__():
            take = self._showing
            if isinstance(frame, rtc.VideoFrame) and take is not None and not self._stalled:
                sample, luma = take.sample_at(take.shown - 1), small(frame)
                if sample < take.segment.samples:
                    self.said.drawn.setdefault(luma.tobytes(), sample)
                    self.said.shown.append((sample, openness(luma)))
            yield frame


def small(frame: rtc.VideoFrame) -> NDArray[np.uint8]:
    luma = np.frombuffer(frame.data, np.uint8)[: frame.width * frame.height].reshape(frame.height, frame.width)
    return np.ascontiguousarray(luma[::4, ::4])


async def talk(generator: Tapped, output: avatar.QueueAudioOutput, sounds: list[NDArray[np.int16]], utterances: int, slot: float) -> list[Said]:
    spoken: list[Said] = []
    output.on("playback_started", lambda event: spoken[-1].started.append(time.perf_counter()))
    output.on("playback_finished", lambda event: spoken[-1].finished.append((time.perf_counter(), event)))
    began = time.perf_counter()
    for n in range(utterances):
        said = generator.said = Said(sounds[n % len(sounds)])
        spoken.append(said)
        said.pushed = time.perf_counter()
        for at in range(0, len(said.pcm), RATE // 10):
            piece = said.pcm[at : at + RATE // 10]
            await output.capture_frame(rtc.AudioFrame(piece.tobytes(), RATE, 1, len(piece)))
            await asyncio.sleep(0.02)
        output.flush()
        if n % 3 == 2:
            while not said.started:  # noqa: ASYNC110  # LiveKit tells it by a callback
                await asyncio.sleep(0.005)
            await asyncio.sleep(INTERRUPT_S[n // 3 % len(INTERRUPT_S)])
            said.cut = time.perf_counter()
            output.clear_buffer()
        await output.wait_for_playout()
        await asyncio.sleep(max(0.3, began + (n + 1) * slot - time.perf_counter()))
    return spoken


# --- what came out ------------------------------------------------------------------------------------------------


class Sound:
    """The sound that came out as one piece, and when each sample came."""

    def __init__(self, watched: Watched) -> None:
        self.samples = watched.samples().astype(float)
        ends = np.cumsum([len(samples) for _, samples in watched.sound])
        self._ends, self._times = ends, np.array([at for at, _ in watched.sound])

    @classmethod
    def of(cls, samples: NDArray[np.float64]) -> Sound:
        watched = Watched(RATE)
        watched.sound.append((0.0, samples.astype(np.int16)))
        return cls(watched)

    def time_of(self, index: int) -> float:
        """The frame that has it came at once; its last sample is now."""
        n = int(np.searchsorted(self._ends, index, side="right"))
        n = min(n, len(self._ends) - 1)
        return float(self._times[n] - (self._ends[n] - 1 - index) / RATE)

    def index_at(self, at: float) -> int:
        return int(self._ends[min(int(np.searchsorted(self._times, at)), len(self._ends) - 1)])

    def find(self, piece: NDArray[np.float64], first: int, last: int) -> tuple[int, float]:
        """Where a piece begins between two indices, and how well it fits there."""
        window = self.samples[max(0, first) : last + len(piece)]
        if len(window) < len(piece) or not piece.any():
            return -1, 0.0
        size = 1 << int(np.ceil(np.log2(len(window) + len(piece))))
        scores = np.fft.irfft(np.fft.rfft(window, size) * np.conj(np.fft.rfft(piece, size)), size)[: len(window) - len(piece) + 1]
        at = int(scores.argmax())
        norm = float(np.linalg.norm(piece) * np.linalg.norm(window[at : at + len(piece)]))
        return max(0, first) + at, float(scores[at]) / norm if norm else 0.0


def measured(said: Said, until: float, sound: Sound, watched: Watched) -> dict[str, Any]:
    """until: the next one begins."""
    pcm = said.pcm.astype(float)
    ended = said.finished[0][0] if said.finished else said.pushed + 10
    first, last = sound.index_at(said.pushed), sound.index_at(ended + 0.3)
    loud = int(np.flatnonzero(np.abs(said.pcm) > 400)[0])
    piece = round(PIECE_S * RATE)
    begun, _ = sound.find(pcm[loud : loud + 2 * piece], first, last)
    begun -= loud
    out: dict[str, Any] = {"finished": len(said.finished), "started": len(said.started)}
    came = [(at, said.drawn[key], luma) for at, luma in watched.pictures if (key := luma.tobytes()) in said.drawn and at >= said.pushed]
    if came:
        out["first_picture_ms"] = (came[0][0] - said.pushed) * 1e3
    offsets = []
    for at, sample, _ in came:
        part = pcm[sample : sample + piece]
        if len(part) < piece // 2 or np.abs(part).max() < 1_000:
            continue
        found, fits = sound.find(part, begun + sample - round(SEARCH_S * RATE), begun + sample + round(SEARCH_S * RATE))
        if fits > 0.9:
            offsets.append((at - sound.time_of(found)) * 1e3)
    out["offsets"] = offsets
    if said.cut is None and len(came) > 20:
        out["lips_offset_ms"] = lips_offset(said, sound.time_of(max(begun, 0)), came)
    if said.cut is not None:
        silent = watched.loud_after(said.cut, until, threshold=100)
        out["interrupted_to_silence_ms"] = max(0.0, (silent or 0.0) * 1e3)
        out["late_pictures"] = sum(at > said.cut + LATE_S for at, _, _ in came)
        heard = begun + int(np.flatnonzero(np.abs(sound.samples[begun : sound.index_at(until)]) > 0)[-1]) + 1
        # Where its last piece lies in what was said: gaps that a busy machine leaves in between count for nothing.
        tail = sound.samples[heard - piece : heard]
        place, fits = Sound.of(pcm).find(tail, 0, len(pcm))
        if fits > 0.9:
            out["heard_s"] = (place + piece) / RATE
    else:
        out["heard_s"] = len(said.pcm) / RATE
    if said.finished and "heard_s" in out:
        out["position_error_ms"] = (said.finished[0][1].playback_position - out["heard_s"]) * 1e3
    if said.finished:
        out["interrupted_as_it_was"] = said.finished[0][1].interrupted == (said.cut is not None)
    return out


def lips_offset(said: Said, sound_began: float, came: list[tuple[float, int, NDArray[np.uint8]]]) -> float:
    """Milliseconds by which the opening of the mouth that came out lies behind the same as it was drawn, both on the clock of the sound."""
    drawn = np.array(said.shown)
    out = np.array([(at - sound_began, openness(luma)) for at, _, luma in came])
    clock = np.arange(0, drawn[-1, 0] / RATE, 0.001)
    wanted = np.interp(clock, drawn[:, 0] / RATE, drawn[:, 1])
    scores = {}
    for lag in range(-200, 201):
        heard = np.interp(clock + lag / 1e3, out[:, 0], out[:, 1])
        scores[lag] = float(np.corrcoef(wanted, heard)[0, 1])
    return float(max(scores, key=lambda lag: scores[lag]))


def summary(spoken: list[Said], watched: Watched, generator: VideoGenerator) -> dict[str, Any]:
    sound = Sound(watched)
    ends = [*(said.pushed for said in spoken[1:]), watched.sound[-1][0]]
    each = [measured(said, until, sound, watched) for said, until in zip(spoken, ends, strict=True)]
    times = np.array([at for at, _ in watched.pictures])
    offsets = np.array([offset for one in each for offset in one["offsets"]])

    def all_of(name: str) -> list[float]:
        return [round(one[name], 1) for one in each if name in one]

    return {
        "utterances": len(spoken),
        "interrupted": sum(said.cut is not None for said in spoken),
        "pictures_per_s": round((len(times) - 1) / (times[-1] - times[0]), 3),
        "picture_gap_ms": percentiles(np.diff(times) * 1e3, 50, 95, 100),
        "av_offset_ms": {"median": round(float(np.median(offsets)), 1), **percentiles(np.abs(offsets), 50, 95, 100), "n": len(offsets)}
        if len(offsets)
        else None,
        "lips_offset_ms": all_of("lips_offset_ms"),
        "first_picture_ms": percentiles(all_of("first_picture_ms"), 50, 95, 100),
        "interrupted_to_silence_ms": all_of("interrupted_to_silence_ms"),
        "position_error_ms": all_of("position_error_ms"),
        "late_pictures": sum(one.get("late_pictures", 0) for one in each),
        "told_once": all(one["finished"] == 1 and one["started"] == 1 and one["interrupted_as_it_was"] for one in each),
        "stalls": generator.stats.stalls,
        "skipped": generator.stats.skipped,
        "without_lips": generator.stats.without_lips,
    }


async def run(url: str, key: str | None, utterances: int, slot: float, minutes: float) -> dict[str, Any]:
    async with Client(url, key) as client:
        sounds = []
        for n in range(utterances):  # no two alike, nor any picture of them
            text = f"Number {n + 1}. {SENTENCES[n % len(SENTENCES)]}"
            sounds.append(np.frombuffer(await pcm_of(client, text), "<i2"))
    generator = Tapped(url, key)
    await generator.start()
    room, output = Room(), avatar.QueueAudioOutput(sample_rate=RATE, wait_playback_start=True)
    runner = AvatarRunner(room, audio_recv=output, video_gen=generator)  # type: ignore[arg-type]
    result: dict[str, Any] = {}
    async with watching(room, RATE) as watched:
        await runner.start()
        await asyncio.sleep(2)
        spoken = await talk(generator, output, sounds, utterances, slot)
    result["talk"] = await asyncio.to_thread(summary, spoken, watched, generator)
    if minutes:
        async with watching(room, RATE, keep_pictures=False) as watched:
            until, memory = time.perf_counter() + minutes * 60, []
            while time.perf_counter() < until:
                await talk(generator, output, sounds, 3, slot)
                watched.pictures.clear()
                watched.sound.clear()
                memory.append(round(rss_mb(), 1))
        result["memory_mb"] = {"third": memory[len(memory) // 3], "end": memory[-1], "all": memory}
    await runner.aclose()
    await generator.aclose()
    return result


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--key")
    parser.add_argument("--utterances", type=int, default=UTTERANCES)
    parser.add_argument("--slot", type=float, default=5.0)
    parser.add_argument("--minutes", type=float, default=0.0)
    asked = parser.parse_args()
    tell(asyncio.run(run(asked.url, asked.key, asked.utterances, asked.slot, asked.minutes)), asked.json)


if __name__ == "__main__":
    main()

"""What the plugins' benchmarks share: what is said, lips as a number, and figures as they are printed. Needs museserve-client[pictures] alone."""

from __future__ import annotations

import argparse
import io
import json
import resource
import struct
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from museserve_client import Client
from museserve_client.face import FPS
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from tests.peer_media import PEER_RATE, at_48_khz, found  # noqa: E402

RATE = 24_000  # of /v1/audio/speech
SENTENCES = (
    "Tell me about a project that you are proud of.",
    "What made it hard, and who was in the team with you?",
    "How would you explain it to somebody who has never written software?",
    "Good. Let us talk about something else for a while.",
    "When did you last change your mind about something important?",
    "Thank you, that is all that I wanted to know today.",
)
UTTERANCES, INTERRUPTED = 12, 4  # of a round
CUT_AFTER_S = 1.3  # of its sound
MOUTH = (slice(64, 100), slice(44, 84))  # of 512 * 512, each fourth line and column
WINDOW = PEER_RATE // 4  # of a sound, that is looked for in another
SHIFTS_S = np.arange(-0.2, 0.2001, 0.005)


def options(about: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8001")
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser


def tell(figures: dict[str, Any], file: Path | None) -> None:
    text = json.dumps(figures, indent=1)
    print(text)
    if file:
        file.write_text(text + "\n", encoding="utf-8")


async def pcm_of(client: Client, text: str, speed: float = 1.0) -> bytes:
    return b"".join([piece async for piece in client.speak(text, format="pcm", speed=speed)])


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


def lips_off(at: NDArray[np.float64], opened: NDArray[np.float64], film: NDArray[np.float64]) -> float:
    """Seconds between lips that came out, each at its place in the sound, and those of the sound's film."""
    frames = np.arange(len(film)) / FPS
    alike = [np.corrcoef(opened, np.interp(at - shift, frames, film))[0, 1] for shift in SHIFTS_S]
    return abs(float(SHIFTS_S[int(np.argmax(alike))]))


def arrivals(pcm: bytes, came: Sequence[tuple[float, NDArray[np.int16]]]) -> list[tuple[int, float]]:
    """Samples at 48 kHz of a sound at 24 kHz and when each came, every quarter of a second of it that is loud, in order.

    came: what a peer received, with the time of each piece's first sample.
    """
    if not came:
        return []
    wanted, sound = at_48_khz(pcm), np.concatenate([samples for _, samples in came])
    starts = np.cumsum([0, *(len(samples) for _, samples in came)])
    places: list[tuple[int, float]] = []
    for at in range(0, len(wanted) - WINDOW, WINDOW):
        if np.abs(wanted[at : at + WINDOW]).max() < 1_000:
            continue
        place, alike = found(wanted[at : at + WINDOW], sound)
        if alike > 0.8:
            i = int(np.searchsorted(starts, place, "right")) - 1
            places.append((at, came[i][0] + (place - int(starts[i])) / PEER_RATE))
    return [one for i, one in enumerate(places) if not i or one[1] > places[i - 1][1]]


def percentiles(values: Iterable[float], *wanted: int) -> dict[str, float]:
    there = list(values)
    return {f"p{one}": round(float(np.percentile(there, one)), 1) for one in wanted} if there else {}


def ms(seconds: Iterable[float], *wanted: int) -> dict[str, float]:
    return percentiles([1_000 * one for one in seconds], *wanted)


def rss_mb(pid: int | str = "self") -> float:
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize() / 2**20

"""Sound that a client sends while it is made: over real WebSockets against the real graph."""

from __future__ import annotations

import asyncio
import io
import wave

import av
import httpx
import numpy as np
import pytest

from deployments.ingress.sessions.protocol import FrameFlag
from museserve.media.resample import Doubler
from museserve.messages import FloatArray
from museserve.timebase import FPS, OUTPUT_SAMPLES_PER_FRAME
from tests import decoded
from tests.conftest import Service
from tests.deployments.ingress.sessions.test_sessions import QUESTION, contiguous, idle, nothing_left
from tests.live import Live, soon

pytestmark = pytest.mark.serve


@pytest.fixture
def pcm(client: httpx.Client) -> bytes:
    """A question, 16 bits at 24 kHz."""
    return client.post("/v1/audio/speech", json={"input": QUESTION, "response_format": "pcm"}).content


def floats(pcm: bytes) -> FloatArray:
    return np.multiply(np.frombuffer(pcm, "<i2"), 1 / 32_768, dtype=np.float32)


def resampled(pcm: bytes, rate: int) -> bytes:
    resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
    frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm, "<i2")[None], format="s16", layout="mono")
    frame.sample_rate = 24_000
    return b"".join(out.to_ndarray().astype("<i2").tobytes() for part in (frame, None) for out in resampler.resample(part))


def luma(film: bytes) -> FloatArray:
    """float32 (n, height, width)."""
    return np.stack([frame.to_ndarray()[: frame.height].astype(np.float32) for frame in decoded.frames(film)])


def film(service: Service, live: Live, n: int) -> bytes:
    return idle(service, live)[1] + b"".join(came.data for came in live.fragments(n))


async def test_the_lips_are_those_of_the_same_sound_as_a_file(service: Service, pcm: bytes) -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setparams((1, 2, 24_000, 0, "NONE", ""))
        recording.writeframes(pcm)
    async with Live(service.url, avatar="man") as live:
        await live.send(type="speak", id="file", audio=True, phase=40)
        await live.socket.send(file.getvalue())
        await live.send(type="audio_end", id="file")
        as_file = await live.answer("finished", "file")
        await asyncio.sleep(as_file["frames"] / FPS)  # else it follows directly
        await live.send(type="speak", id="pcm", pcm=24_000, phase=40)
        for at in range(0, len(pcm), 7_777):
            await live.socket.send(pcm[at : at + 7_777])
        await live.send(type="audio_end", id="pcm")
        sent = await live.answer("finished", "pcm")
        assert sent["frames"] == as_file["frames"] and sent["sound_ms"] == pytest.approx(len(pcm) / 48, abs=1)
        assert live.of("started", "pcm")[0]["speech_engine"] == "upload"
        first, second = (film(service, live, n) for n in (1, 2))
        assert np.array_equal(decoded.sound(first), decoded.sound(second))
        # How loud it is altogether is known a little later, so lips open a little more or less.
        as_file_drawn, as_pcm_drawn = luma(first), luma(second)
        moved = np.abs(as_file_drawn[8:] - as_file_drawn[:-8]).mean((1, 2)).max()
        assert np.abs(as_file_drawn - as_pcm_drawn).mean((1, 2)).max() < 0.4 * moved


@pytest.mark.parametrize("rate", [16_000, 48_000])
async def test_sound_in_real_time_at_another_rate_comes_out_as_it_went_in(service: Service, pcm: bytes, rate: int) -> None:
    doubler = Doubler()
    doubled = np.concatenate([doubler.push(floats(pcm)), doubler.finish()])
    data = resampled(pcm, rate)
    step = rate // 50 * 2  # 20 ms
    async with Live(service.url, avatar="woman") as live:
        await live.answer("ready")
        await live.send(type="speak", id="a", pcm=rate, phase=0)
        for at in range(0, len(data), step):
            await live.socket.send(data[at : at + step])
            await asyncio.sleep(0.02)
        assert live.of("started")  # long before its end
        await live.send(type="audio_end", id="a")
        done = await live.answer("finished")
        assert contiguous(live.fragments(1)) == done["frames"]
        assert len(live.of("started")) == 1 + len(live.of("waiting"))
        if not live.of("waiting"):  # this machine was never so late that it seemed a pause
            heard = decoded.sound(film(service, live, 1))
            assert len(heard) == pytest.approx(done["frames"] * OUTPUT_SAMPLES_PER_FRAME, abs=2_048)
            n = min(len(heard), len(doubled))
            assert np.corrcoef(heard[:n:2], doubled[:n:2])[0, 1] > 0.95


async def test_a_sender_that_pauses_and_one_that_is_interrupted(service: Service, pcm: bytes) -> None:
    half = len(pcm) // 4 * 2
    async with Live(service.url, avatar="woman") as live:
        await live.send(type="speak", id="a", pcm=24_000, phase=10)
        await live.socket.send(pcm[:half])
        waiting = await live.answer("waiting", "a")
        assert waiting["sound_ms"] == pytest.approx(half / 48, abs=1) and waiting["frames"] * 40 > waiting["sound_ms"]
        await live.socket.send(pcm[half:])
        await live.answer("started", "a", count=2)
        await live.send(type="audio_end", id="a")
        done = await live.answer("finished", "a")
        first, second = live.of("part", "a")
        assert first["sound_ms"] == 0 and second["sound_ms"] == waiting["sound_ms"] and second["first_frame"] == waiting["frames"]
        assert contiguous(live.fragments(1)) == done["frames"]
        starts = [c.header.first_frame for c in live.fragments(1) if c.header and c.header.flags & FrameFlag.STARTS]
        assert starts == [0, waiting["frames"]]

        await live.send(type="speak", id="b", pcm=24_000)
        await live.socket.send(pcm)
        await live.answer("started", "b")
        await live.send(type="played", id="b", frames=2)
        await live.send(type="interrupt")
        interrupted = await live.answer("interrupted", "b")
        assert interrupted["played_ms"] == 80 and interrupted["played_told"]
        await live.socket.send(pcm)  # was on its way
        await live.send(type="speak", id="c", pcm=24_000)
        await live.socket.send(pcm)
        await live.send(type="audio_end", id="c")
        assert (await live.answer("finished", "c"))["sound_ms"] == pytest.approx(len(pcm) / 48, abs=1)
        assert not live.of("error")
        assert all(came.header is None or came.header.n != 2 or came.seq < interrupted["seq"] for came in live.came)
        await live.send(type="end")
    await soon(lambda: nothing_left(service))


async def test_it_is_taken_over_by_another_session(service: Service, pcm: bytes) -> None:
    async with Live(service.url, avatar="woman") as live:
        await live.send(type="speak", id="u", pcm=24_000, phase=16)
        await live.socket.send(pcm)
        await live.send(type="audio_end", id="u")
        done = await live.answer("finished", "u")
        whole = film(service, live, 1)
        part = {key: value for key, value in live.of("part", "u")[0].items() if key not in ("type", "seq", "id", "n")}
        before = b"".join(c.data for c in live.fragments(1) if c.header and c.header.first_frame < 24)
        init = idle(service, live)[1]
    async with Live(service.url, avatar="woman") as live:
        await live.send(type="speak", id="u", pcm=24_000, received={"frames": 24, "part": part})
        await live.socket.send(pcm)
        await live.send(type="audio_end", id="u")
        again = await live.answer("finished", "u")
        assert again["frames"] == done["frames"] and again["sound_ms"] == done["sound_ms"] and live.of("started")[0]["first_frame"] == 24
        assert contiguous(live.fragments(1), 24) == done["frames"]
        joined = init + before + b"".join(c.data for c in live.fragments(1))
        assert len(decoded.frames(joined)) == len(decoded.frames(whole))
        heard, expected = decoded.sound(joined), decoded.sound(whole)
        assert len(heard) == len(expected) and np.abs(heard - expected)[: 23 * OUTPUT_SAMPLES_PER_FRAME].max() == 0
        assert np.corrcoef(heard, expected)[0, 1] > 0.99


@pytest.mark.parametrize(("message", "told"), [({"pcm": 44_100}, "pcm"), ({"pcm": 24_000, "text": "Hi."}, "exactly one"), ({"pcm": True}, "pcm")])
async def test_what_is_no_rate_is_refused(service: Service, message: dict[str, object], told: str) -> None:
    async with Live(service.url) as live:
        await live.send(type="speak", id="a", **message)
        assert told in (await live.answer("error"))["message"]

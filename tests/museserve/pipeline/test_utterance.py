from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from configs.models import MediaConfig, MuxConfig
from museserve.errors import AudioError, SpeechEngineError
from museserve.media.background import Background
from museserve.media.encode import RENDITION_STEPS, init_segment
from museserve.messages import PROVIDER, Conditioning, Fragment, RenderedCrops, RenderRequest, SpeechWindow
from museserve.pipeline.engines import LipSync, Listen, Render
from museserve.pipeline.speech_buffer import HURRIED_FRAMES
from museserve.pipeline.utterance import UtterancePipeline, UtterancePlan
from museserve.runtime.deadline_executor import DeadlineExecutor
from museserve.timebase import FPS, SEGMENT_FRAMES
from tests import decoded
from tests.fakes import INFO, FakeLips, FakeSpeech, background

CONFIG = MuxConfig()
TO_A_LEVEL = MuxConfig(media=MediaConfig(crf=10))  # the encoder shows what is drawn


def utterance(
    speech: FakeSpeech,
    lips: FakeLips,
    *,
    config: MuxConfig = CONFIG,
    on: Background | None = None,
    fade_frames: int = 0,
    listen: Listen | None = None,
    render: Render | None = None,
    tight: Callable[[], None] | None = None,
    **plan: Any,
) -> UtterancePipeline:
    engine = LipSync(replace(INFO, fade_frames=fade_frames, piece_s=1.0), listen or lips.listen, render or lips.render)
    plan = {"paced": False, **plan}
    ground = on or background()
    executor = DeadlineExecutor([math.inf] * 2)
    return UtterancePipeline(ground, speech.stream(), engine, config, executor, UtterancePlan(**plan), tight=tight)


async def film(made: UtterancePipeline) -> list[Fragment]:
    return [fragment async for fragment in made.fragments()]


def pictures(fragments: list[Fragment]) -> list[np.ndarray]:
    return [frame.to_ndarray(format="gray") for frame in decoded.frames(b"".join(f.data for f in fragments))]


async def test_every_frame_is_drawn_on_its_own_background_and_sent_once_in_order() -> None:
    lips = FakeLips(background().box)
    made = utterance(FakeSpeech(2.0), lips, phase=16)
    fragments = await film(made)
    assert [f.first_frame for f in fragments[:3]] == [0, 2, 8]
    assert sum(f.n_frames for f in fragments) == made.total_frames == 56
    assert all(a.first_frame + a.n_frames == b.first_frame for a, b in zip(fragments, fragments[1:], strict=False))
    assert [f.final for f in fragments] == [False] * (len(fragments) - 1) + [True]
    shown = pictures(fragments)
    assert len(shown) == 56
    levels = [int(p[32, 32]) for p in shown]
    # Crops carry the number of their background frame as luma 0..31; limited range shows it as (n - 16) * 255 / 219.
    expected = [max(0, round(((16 + i) % 32 - 16) * 255 / 219)) for i in range(56)]
    assert np.abs(np.subtract(levels, expected)).max() <= 4
    assert abs(int(shown[0][2, 2]) - 130) < 4  # outside the box the background stays


@pytest.mark.parametrize(("live", "heard_before"), [(False, 2), (True, SEGMENT_FRAMES)])
async def test_sound_that_may_come_no_faster_than_it_is_heard_begins_with_a_whole_segment_in_hand(live: bool, heard_before: int) -> None:
    """Else its player runs dry after two pictures. These are drawn while the rest of the segment is waited for."""
    lips, heard_when_drawn = FakeLips(background().box), list[int]()

    async def render(request: RenderRequest) -> RenderedCrops:
        heard_when_drawn.append(len(lips.heard))
        return await lips.render(request)

    made = utterance(FakeSpeech(1.5, chunk_s=0.04, delay_s=0.01), lips, render=render, live=live, paced=True)
    async for fragment in made.fragments():
        if fragment.first_frame == 0:
            assert fragment.n_frames == 2 and heard_before <= len(lips.heard) < heard_before + SEGMENT_FRAMES - 1
    assert len(lips.heard) == made.total_frames and 2 <= heard_when_drawn[0] < SEGMENT_FRAMES


@pytest.mark.parametrize(("plan", "whole_from"), [({}, 56), ({"recorded": True}, 0), ({"recorded": True, "paced": True}, HURRIED_FRAMES)])
async def test_a_recording_is_heard_in_whole_pieces_and_its_beginning_at_once(plan: dict[str, Any], whole_from: int) -> None:
    lips, seen = FakeLips(background().box), list[tuple[int, bool]]()

    async def listen(speech: SpeechWindow) -> Conditioning:
        seen.append((speech.first_frame, speech.whole))
        return await lips.listen(speech)

    made = utterance(FakeSpeech(2.0), lips, listen=listen, **plan)
    assert sum(f.n_frames for f in await film(made)) == 56 and lips.heard == list(range(56))
    assert all(whole == (first >= whole_from) for first, whole in seen) and len(seen) > 1


async def test_silence_costs_no_drawing_and_shows_the_background() -> None:
    lips = FakeLips(background().box, silent=range(8, 40))
    fragments = await film(utterance(FakeSpeech(2.0), lips))
    assert sum(len(a) for a in lips.asked) == 56 - 32
    assert all(abs(int(p[32, 32]) - 130) < 4 for p in pictures(fragments)[8:40])


async def test_the_first_picture_keeps_what_it_can_of_the_idle_frame_before_it() -> None:
    frames = background().frames.copy()
    frames[5:] = 129  # a level more than frame 4
    lips = FakeLips(background().box, silent=range(40))
    made = utterance(FakeSpeech(0.6), lips, config=TO_A_LEVEL, phase=5, on=replace(background(), frames=frames))
    shown = decoded.pictures(b"".join(f.data for f in await film(made)))[:, 2, 2]
    assert shown[0] == 128 and shown[8] == 129


async def test_the_last_segment_begins_with_what_it_can_of_the_idle_frame_after_it() -> None:
    frames = background().frames.copy()
    frames[16:24] = 129  # a level more than frame 24
    lips = FakeLips(background().box, silent=range(40))
    made = utterance(FakeSpeech(0.6), lips, config=TO_A_LEVEL, on=replace(background(), frames=frames))
    fragments = await film(made)
    assert sum(f.n_frames for f in fragments) == 24
    shown = decoded.pictures(b"".join(f.data for f in fragments))[:, 2, 2]
    assert shown[15] == 128 and shown[16] == 128 and shown[23] == 129


async def test_speech_is_encoded_as_the_idle_loop_was_or_in_a_rendition_of_fewer_bytes_that_fits_it() -> None:
    scene = cv2.GaussianBlur(np.random.default_rng(1).normal(128, 400, background().frames.shape[1:]), (0, 0), 3).clip(0, 255).astype(np.uint8)
    noisy = replace(background(), frames=np.stack([np.roll(scene, number, axis=1) for number in range(len(background().frames))]))
    size = noisy.frames.shape[2]
    init = init_segment(size, size, CONFIG.media)

    async def bytes_of(crf: int | None, rendition: int) -> int:
        made = await film(utterance(FakeSpeech(0.4), FakeLips(noisy.box), on=replace(noisy, crf=crf), rendition=rendition))
        assert made[0].data.startswith(init)
        return sum(len(fragment.data) for fragment in made)

    full, less, least = [await bytes_of(None, rendition) for rendition in range(3)]
    assert full > 1.15 * less > 1.15 * 1.1 * least, "a part of it is sound"
    assert await bytes_of(CONFIG.media.crf + RENDITION_STEPS, 0) == less


async def test_words_arrive_and_are_announced_as_complete() -> None:
    fragments = await film(utterance(FakeSpeech(2.0), FakeLips(background().box)))
    assert [w.text for f in fragments for w in f.words] == ["w0", "w1", "w2", "w3"]
    assert fragments[-1].words_final
    head = fragments[0].head
    assert head is not None and head.codecs.startswith("avc1.") and head.speech_engine == "fake"
    assert list(head.timings_ms)[-1] == "first_fragment"


async def test_no_more_than_the_allowed_segments_are_in_flight() -> None:
    lips = FakeLips(background().box, render_s=0.01)
    await film(utterance(FakeSpeech(4.0), lips))
    assert lips.most_in_flight == CONFIG.segments_in_flight


async def test_the_first_picture_does_not_wait_for_the_last_word() -> None:
    speech = FakeSpeech(4.0, delay_s=0.05)
    fragments = utterance(speech, FakeLips(background().box)).fragments()
    await anext(fragments)
    assert speech.sent < 8
    await fragments.aclose()


async def test_a_paced_stream_keeps_its_lead() -> None:
    config = MuxConfig(lead_s=0.64)
    loop = asyncio.get_running_loop()
    speech = FakeSpeech(2.0)
    times = []
    made = utterance(speech, FakeLips(background().box), config=config, paced=True)
    async for fragment in made.fragments():
        times.append((fragment.first_frame / FPS, loop.time()))
    began = times[0][1]
    assert all(at - began >= media - 0.64 - 0.02 for media, at in times)


async def test_closing_stops_everything_below() -> None:
    class FirstOnly(FakeLips):
        async def render(self, request: RenderRequest) -> RenderedCrops:
            self.render_s = 0.0 if request.first else 3_600.0
            return await super().render(request)

    speech, lips = FakeSpeech(30.0, delay_s=0.001), FirstOnly(background().box)
    fragments = utterance(speech, lips).fragments()
    await anext(fragments)
    await asyncio.sleep(0.005)
    await fragments.aclose()
    assert speech.closed and lips.in_flight == 0 and lips.cancelled >= 1
    asked = len(lips.asked)
    await asyncio.sleep(0.1)
    assert len(lips.asked) == asked
    assert [t for t in asyncio.all_tasks() if t is not asyncio.current_task()] == []


@pytest.mark.parametrize("fail_after", [0, 3])
async def test_a_failing_voice_ends_the_video_with_its_error(fail_after: int) -> None:
    with pytest.raises(SpeechEngineError, match="went dead"):
        await film(utterance(FakeSpeech(4.0, fail_after=fail_after), FakeLips(background().box)))


async def test_a_failing_renderer_ends_the_video_with_its_error() -> None:
    with pytest.raises(RuntimeError, match="device lost"):
        await film(utterance(FakeSpeech(4.0), FakeLips(background().box, fail_at=20)))


async def test_speech_over_the_limit_is_refused() -> None:
    with pytest.raises(AudioError, match="longer than 1 s"):
        await film(utterance(FakeSpeech(2.0), FakeLips(background().box), max_s=1.0))


async def test_the_video_ends_on_a_segment_border() -> None:
    for seconds in (0.04, 0.3, 1.13):
        made = utterance(FakeSpeech(seconds), FakeLips(background().box))
        fragments = await film(made)
        assert sum(f.n_frames for f in fragments) % SEGMENT_FRAMES == 0


async def test_drawn_mouths_come_and_go_by_degrees_for_engines_that_ask() -> None:
    """Levels of the box between the background's 128 and the crop's 0..31, frame by frame, across pieces and the ends of the utterance."""
    lips = FakeLips(background().box, silent=range(20, 30))
    made = utterance(FakeSpeech(2.0), lips, fade_frames=3)
    shown = [float(p[24:40, 24:40].mean()) for p in pictures(await film(made))]
    ramp = [0.25, 0.5, 0.75]
    weights = np.array([*ramp, *[1.0] * 14, *ramp[::-1], *[0.0] * 10, *ramp, *[1.0] * 20, *ramp[::-1]])
    levels = 128 + (np.arange(56) % 32 - 128) * weights
    assert np.abs(np.maximum(levels - 16, 0) * 255 / 219 - shown).max() < 4


async def test_for_a_viewer_no_more_is_heard_than_the_next_seconds_need_and_a_file_is_heard_at_once() -> None:
    for paced, least, most in ((True, 24, 3 * FPS), (False, 20 * FPS, 20 * FPS + 2 * SEGMENT_FRAMES)):
        lips = FakeLips(background().box, render_s=3_600.0)  # nothing is ever drawn
        made = utterance(FakeSpeech(20.0), lips, paced=paced)
        fragments = made.fragments()
        filming = asyncio.ensure_future(anext(fragments))
        done, _ = await asyncio.wait({filming}, timeout=1.0)
        filming.cancel()
        await asyncio.gather(filming, return_exceptions=True)
        await fragments.aclose()
        assert not done
        assert least <= len(lips.heard) <= most


async def test_what_comes_too_late_for_its_viewer_begins_with_a_key_frame() -> None:
    """He sees the idle loop meanwhile."""
    in_time = await film(utterance(FakeSpeech(2.0), FakeLips(background().box), paced=True))
    assert [f.key for f in in_time] == [True] + (len(in_time) - 1) * [False]
    late = await film(utterance(FakeSpeech(1.0), FakeLips(background().box, render_s=0.9), config=MuxConfig(segments_in_flight=1), paced=True))
    assert [f.first_frame for f in late if f.key] == [0, *(f.first_frame for f in late if f.first_frame >= SEGMENT_FRAMES)]


@pytest.mark.parametrize(
    ("speech", "render_s", "read_s", "plan", "told"),
    [
        (FakeSpeech(4.0), 0.5, 0.0, {}, True),
        (FakeSpeech(4.0, delay_s=0.9), 0.0, 0.0, {}, True),  # a voice of ours is made by this machine
        (FakeSpeech(4.0, delay_s=0.9, engine=PROVIDER), 0.0, 0.0, {}, False),
        (FakeSpeech(4.0, chunk_s=0.2, delay_s=0.2), 0.0, 0.0, {"live": True}, False),  # it comes as it is said
        (FakeSpeech(4.0), 0.0, 0.5, {}, False),
        (FakeSpeech(4.0), 0.2, 0.0, {"paced": False}, False),
    ],
    ids=["slow pictures", "slow voice", "slow provider", "live sound", "slow reader", "a file"],
)
async def test_who_keeps_up_only_just_is_told_of(speech: FakeSpeech, render_s: float, read_s: float, plan: dict[str, Any], told: bool) -> None:
    """Where that is because of this machine, others do not begin meanwhile."""
    tight: list[bool] = []
    lips = FakeLips(background().box, render_s=render_s)
    made = utterance(speech, lips, config=MuxConfig(segments_in_flight=1), tight=lambda: tight.append(True), **{"paced": True, **plan})
    async for _ in made.fragments():
        await asyncio.sleep(read_s)
    assert bool(tight) == told


@pytest.mark.parametrize("first_frame", [8, 16, 48])
async def test_an_utterance_goes_on_from_a_segment_as_if_it_had_not_been_cut(first_frame: int) -> None:
    """Also where the cut falls into a mouth that comes or goes by degrees."""

    def made(**plan: Any) -> UtterancePipeline:
        silent = range(first_frame - 6, first_frame - 1)
        return utterance(FakeSpeech(2.0), FakeLips(background().box, silent=silent), fade_frames=3, phase=5, **plan)

    whole = await film(made())
    rest = await film(made(first_frame=first_frame))
    assert [f.first_frame - first_frame for f in rest[:3]] == [0, 2, 8][: len(rest)] and rest[-1].final
    assert sum(f.n_frames for f in rest) == 56 - first_frame
    assert rest[0].head is not None and [w for f in rest for w in f.words] == [w for f in whole for w in f.words]
    init = init_segment(64, 64, CONFIG.media)
    assert rest[0].data.startswith(init)
    before = [f for f in whole if f.first_frame < first_frame]
    joined = b"".join(f.data for f in [*before, *rest]).replace(init, b"")
    data = b"".join(f.data for f in whole)
    off = np.abs(decoded.pictures(init + joined).astype(int) - decoded.pictures(data))
    assert off.mean() < 0.3 and off.max() <= 8, "the same but for the errors of the quantiser: the rest begins with a key frame"
    assert np.abs(decoded.sound(init + joined) - decoded.sound(data)).max() < 0.03


@pytest.mark.parametrize("first_frame", [56, 80])
async def test_from_its_end_on_an_utterance_is_one_empty_fragment(first_frame: int) -> None:
    (only,) = await film(utterance(FakeSpeech(2.0), FakeLips(background().box), first_frame=first_frame))
    assert only.final and only.n_frames == 0 and only.first_frame == 56 and len(only.words) == 4
    assert only.head is not None and only.data == init_segment(64, 64, CONFIG.media)


async def test_who_goes_on_in_mid_utterance_has_the_lead_of_a_beginner() -> None:
    loop = asyncio.get_running_loop()
    lips = FakeLips(background().box)
    began = loop.time()
    times = {}
    async for fragment in utterance(FakeSpeech(8.0), lips, paced=True, first_frame=160).fragments():
        times[fragment.first_frame] = loop.time() - began
        if fragment.first_frame >= 192:
            break
    assert times[176] < 3, "the first segments are sent at once, not when those with their numbers would be due: after 6.4 s"
    assert times[192] > 0.2, "then the lead grows"
    assert min(lips.heard) == 160

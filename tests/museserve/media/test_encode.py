from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import av
import cv2
import numpy as np
import pytest

from museserve.media.encode import COARSE, FragmentEncoder, init_segment
from museserve.media.fragments import moved
from museserve.media.idle_loop import encode_idle
from museserve.media.resample import Doubler
from museserve.timebase import AAC_FRAME, KEY_FRAMES, SEGMENT_SAMPLES
from tests.museserve.media.clips import CONFIG, SIDE, clicks, film, numbered, peaks, placed, watch
from tests.museserve.media.isobmff import parse_fragments

INIT = init_segment(SIDE, SIDE, CONFIG)


def tone(n: int, hz: float = 437.5) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(n) / 24_000)).astype(np.float32)


def doubled(pcm: np.ndarray, n: int) -> np.ndarray:
    doubler = Doubler()
    sound = np.concatenate([doubler.push(pcm), doubler.finish()])
    return np.pad(sound, (0, n - len(sound)))


def test_idle_and_utterances_of_other_encoders_join_without_a_gap() -> None:
    idle = encode_idle(numbered(0, 16), CONFIG)
    timeline, expected, expected_clicks, segment = list[bytes](), list[int](), list[int](), 0
    for turn, seconds in enumerate((1.0, 0.4, 2.13)):
        for phase in (0, 1):
            timeline += placed([idle.segments[phase]], segment)
            expected += range(8 * phase, 8 * phase + 8)
            segment += 1
        n = round(seconds * 24_000)
        at = [5_000, n - 1_500] if n > 20_000 else [5_000]
        speech = film(clicks(n, at), first_number=1_000 * (turn + 1))
        frames = -(-n // (960 * 8)) * 8
        timeline += placed(speech, segment)
        expected += range(1_000 * (turn + 1), 1_000 * (turn + 1) + frames)
        expected_clicks += [segment * SEGMENT_SAMPLES + 2 * p for p in at]
        segment += frames // 8
    timeline += placed([idle.segments[0]], segment)
    expected += range(8)
    shown, pcm, first = watch(idle.init + b"".join(timeline))
    assert shown == list(enumerate(expected))
    assert first == 0 and len(pcm) == (segment + 1) * SEGMENT_SAMPLES
    assert peaks(pcm) == expected_clicks


def test_pieces_carry_their_share_of_sound_in_absolute_time() -> None:
    fragments = film(clicks(30_000, [9_000]), pieces=(2, 2, 2, 2))
    infos = [info for data in fragments for info in parse_fragments(data)]
    assert len(infos) == len(fragments) == 4 + 3, "one moof and one mdat each"
    video, audio = zip(*(info.tracks for info in infos), strict=True)
    assert [len(track.sizes) for track in video] == [2, 2, 2, 2, 8, 8, 8]
    assert [len(track.sizes) for track in audio] == [3, 4, 4, 4, 15, 15, 15]
    assert [track.decode_time for track in video] == [0, 1_024, 2_048, 3_072, 4_096, 8_192, 12_288]
    assert [track.decode_time for track in audio] == [1_024 * n for n in (0, 3, 7, 11, 15, 30, 45)]
    assert [info.sequence for info in infos] == list(range(1, 8))
    assert all(set(track.durations) == {512} for track in video) and all(set(track.durations) == {AAC_FRAME} for track in audio)
    for info, track in zip(infos, video, strict=True):
        assert track.sync == (track.decode_time == 0, *[False] * (len(track.sizes) - 1))
        assert sum(track.sizes) + sum(info.tracks[1].sizes) == info.payload


def keys_of(fragments: list[bytes]) -> list[int]:
    """Numbers of the frames that are key frames, by their flags."""
    tracks = [info.tracks[0] for data in fragments for info in parse_fragments(data)]
    return [track.decode_time // 512 + i for track in tracks for i, sync in enumerate(track.sync) if sync]


@pytest.mark.parametrize("first_frame", [0, 24])
def test_a_stream_begins_with_a_key_frame_and_has_one_now_and_then(first_frame: int) -> None:
    pcm = np.zeros((2 * KEY_FRAMES + 24) * 960, np.float32)
    assert keys_of(film(pcm, first_frame=first_frame)) == list(range(first_frame, 2 * KEY_FRAMES + 24, KEY_FRAMES))


def test_a_key_frame_that_is_asked_for_needs_nothing_before_it() -> None:
    n = KEY_FRAMES + 24
    with FragmentEncoder(SIDE, SIDE, CONFIG) as encoder:
        encoder.push_audio(np.zeros(n * 960, np.float32))
        encoder.finish_audio(n)
        fragments = [encoder.encode(numbered(at, 8), key=at == 16) for at in range(0, n, 8)]
    assert keys_of(fragments) == [0, 16, 16 + KEY_FRAMES]
    assert [number for _, number in watch(INIT + b"".join(fragments[2:]))[0]] == list(range(16, n))


def test_an_idle_loop_goes_on_without_key_frames_from_any_of_its_segments() -> None:
    idle = encode_idle(numbered(0, 32), CONFIG)
    assert keys_of(list(idle.segments)) == [0, 0, 0, 0] and keys_of(list(idle.steady)) == []
    for entry in range(4):
        later = [(entry + i) % 4 for i in range(1, 9)]
        played = [idle.segments[entry], *(idle.steady[n] for n in later)]
        shown, _, _ = watch(idle.init + b"".join(moved(segment, 8 * i) for i, segment in enumerate(played)))
        assert [number for _, number in shown] == [8 * n + i for n in (entry, *later) for i in range(8)]
    with av.open(io.BytesIO(idle.mp4), "r") as whole:
        assert [packet.is_keyframe for packet in whole.demux(video=0) if packet.size] == [True] + 31 * [False]


@pytest.mark.parametrize("pieces", [(1, 7), (3, 5), (8,), (1,) * 8])
def test_any_cut_of_a_segment_gives_the_same_stream(pieces: tuple[int, ...]) -> None:
    pcm = tone(20_000)
    whole = watch(INIT + b"".join(film(pcm)))
    cut = watch(INIT + b"".join(film(pcm, pieces=pieces)))
    assert cut[0] == whole[0] == [(i, i) for i in range(24)]
    assert np.array_equal(cut[1], whole[1])


def test_the_way_speech_arrives_does_not_change_the_stream() -> None:
    pcm = tone(24_000)
    assert film(pcm, chunk=333) == film(pcm, chunk=24_000)


@pytest.mark.slow
def test_no_drift_in_five_minutes() -> None:
    n, at = 300 * 24_000, range(12_345, 300 * 24_000, 240_000)
    shown, pcm, first = watch(INIT + b"".join(film(clicks(n, at), chunk=24_000)))
    assert shown == [(i, i) for i in range(7_504)]  # 7,500 and what fills the last segment
    assert first == 0 and len(pcm) == 7_504 * 1_920
    assert peaks(pcm) == [2 * p for p in at]


def test_sound_from_the_first_sample_is_silenced_not_aliased() -> None:
    idle = encode_idle(numbered(0, 8), CONFIG)
    spoken = film(tone(24_000))
    _, pcm, _ = watch(idle.init + b"".join([*placed([idle.segments[0]], 0), *placed(spoken, 1)]))
    before, after = pcm[:SEGMENT_SAMPLES], pcm[SEGMENT_SAMPLES:]
    assert np.abs(before).max() < 1e-3
    assert np.abs(after[:900]).max() < 0.02  # the fade after them rings a little ahead
    expected = 0.3 * np.sin(2 * np.pi * 437.5 * np.arange(2_048, 20_000) / 48_000)
    assert np.sqrt(np.mean((after[2_048:20_000] - expected) ** 2)) < 0.01


def test_sound_until_the_last_sample_rings_out_in_the_idle_segment_after_it() -> None:
    idle = encode_idle(numbered(0, 8), CONFIG)
    n = 2 * 7_680
    spoken = film(tone(n))
    assert len(spoken) == 5  # two segments, no room left
    _, pcm, _ = watch(idle.init + b"".join([*spoken, *placed([idle.segments[0]], 2)]))
    expected = 0.3 * np.sin(2 * np.pi * 437.5 * np.arange(2 * n - 1_024, 2 * n) / 48_000)
    assert np.sqrt(np.mean((pcm[2 * n - 1_024 : 2 * n] - expected) ** 2)) < 0.02
    assert np.abs(pcm[2 * n + 1_024 :]).max() < 1e-3


def test_a_short_utterance_is_padded_to_whole_segments_of_silence() -> None:
    shown, pcm, _ = watch(INIT + b"".join(film(clicks(1_500, [1_400]), n_frames=9)))
    assert len(shown) == 16 and len(pcm) == 2 * SEGMENT_SAMPLES
    assert peaks(pcm) == [2_800]
    assert np.abs(pcm[6_000:]).max() < 1e-3


def test_frames_ready_waits_for_the_sound_that_ends_with_the_picture() -> None:
    with FragmentEncoder(SIDE, SIDE, CONFIG) as encoder:
        assert encoder.frames_ready() == 0
        pushed = 0
        while encoder.frames_ready() < 2:
            encoder.push_audio(np.zeros(96, np.float32))
            pushed += 96
        # two pictures end inside the 4th AAC frame; three whole ones and a lead of two, and the filter's 1.3 ms
        assert 5 * AAC_FRAME <= 2 * pushed <= 5 * AAC_FRAME + 2 * (96 + 32)
        encoder.encode(numbered(0, 2))
        assert encoder.frames_ready() == 0
        encoder.finish_audio(8)
        assert encoder.frames_ready() == 6


def test_init_segments_are_equal_across_encoders_and_name_their_codecs() -> None:
    inits, names = set(), set()
    for _ in range(3):
        with FragmentEncoder(512, 512, CONFIG) as encoder:
            encoder.push_audio(tone(24_000))
            encoder.encode(np.full((8, 768, 512), 90, np.uint8))
            inits.add(encoder.init_segment)
            names.add(encoder.codecs)
    assert inits == {init_segment(512, 512, CONFIG)}
    (init,) = inits
    avcc = init.index(b"avcC") + 4
    assert names == {f"avc1.{init[avcc + 1 : avcc + 4].hex()}, mp4a.40.2"}


def test_headers_are_those_of_every_quantiser() -> None:
    assert {init_segment(128, 128, CONFIG.model_copy(update={"crf": crf})) for crf in (12, 19, 25, 33)} == {init_segment(128, 128, CONFIG)}


@pytest.mark.parametrize("number", [0, 1])
def test_a_quantiser_means_the_same_whichever_way_it_is_told(number: int) -> None:
    """The finest of the coarse ones and the coarsest of the fine ones are a step apart: an eighth of the bytes, in key frames and in others."""
    rng = np.random.default_rng(5)
    frames = [np.asarray(cv2.GaussianBlur(rng.integers(0, 255, (192, 128), np.uint8), (0, 0), 1.5), np.uint8) for _ in range(2)]
    sizes = []
    for crf in (COARSE - 1, COARSE):
        with FragmentEncoder(128, 128, CONFIG.model_copy(update={"crf": crf})) as encoder:
            encoder.push_audio(np.zeros(24_000, np.float32))
            fragments = [encoder.encode(frames[n : n + 1]) for n in range(2)]
            with av.open(io.BytesIO(encoder.init_segment + b"".join(fragments)), "r") as container:
                sizes.append([packet.size for packet in container.demux(video=0) if packet.size][number])
    assert 1.04 < sizes[0] / sizes[1] < 1.25


def test_colours_survive_and_are_tagged() -> None:
    patches = [(220, 40, 40), (40, 200, 60), (50, 60, 220), (240, 200, 170), (128, 128, 128), (255, 255, 255), (0, 0, 0), (230, 220, 40)]
    rgb = np.zeros((128, 128, 3), np.uint8)
    for i, colour in enumerate(patches):
        rgb[i // 4 * 64 : i // 4 * 64 + 64, i % 4 * 32 : i % 4 * 32 + 32] = colour
    frame = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420), np.uint8)
    with FragmentEncoder(128, 128, CONFIG) as encoder:
        encoder.push_audio(np.zeros(24_000, np.float32))
        data = encoder.init_segment + encoder.encode([frame] * 8)
    with av.open(io.BytesIO(data), "r") as container:
        shown = list(container.decode(video=0))[-1]
        tags = container.streams.video[0].codec_context
        assert (tags.colorspace, tags.color_range, tags.color_primaries, tags.color_trc) == (6, 1, 1, 13)
    seen = shown.to_ndarray(format="rgb24").astype(int)  # converts as the tags say
    for i, colour in enumerate(patches):
        middle = seen[i // 4 * 64 + 8 : i // 4 * 64 + 56, i % 4 * 32 + 8 : i % 4 * 32 + 24].mean(axis=(0, 1))
        assert np.abs(middle - colour).max() < 5, f"{colour} came out as {middle.round(1)}"


def test_frames_may_be_read_only_and_reused_by_the_caller() -> None:
    frames = numbered(0, 8)
    scratch = frames[0].copy()
    with FragmentEncoder(SIDE, SIDE, CONFIG) as encoder, FragmentEncoder(SIDE, SIDE, CONFIG) as other:
        for one in (encoder, other):
            one.push_audio(np.zeros(24_000, np.float32))
        frames.flags.writeable = False
        expected = encoder.encode(frames)
        reused = []
        for frame in frames:
            scratch[:] = frame
            reused.append(other.encode([scratch]))
    assert watch(INIT + expected)[0] == watch(INIT + b"".join(reused))[0] == [(i, i) for i in range(8)]


def test_calls_may_come_from_different_threads() -> None:
    with FragmentEncoder(SIDE, SIDE, CONFIG) as encoder:
        fragments = []
        for i in range(4):
            with ThreadPoolExecutor(1) as pool:
                pool.submit(encoder.push_audio, np.zeros(9_600, np.float32)).result()
                fragments.append(pool.submit(encoder.encode, numbered(8 * i, 8)).result())
    assert watch(INIT + b"".join(fragments))[0] == [(i, i) for i in range(32)]


def test_what_does_not_fit_is_refused_and_leaves_the_stream_whole() -> None:
    with pytest.raises(ValueError, match="even"):
        FragmentEncoder(511, 512, CONFIG)
    with FragmentEncoder(SIDE, SIDE, CONFIG) as encoder:
        with pytest.raises(ValueError, match="speech for 0"):
            encoder.encode(numbered(0, 2))
        encoder.push_audio(np.zeros(24_000, np.float32))
        with pytest.raises(ValueError, match="inside one segment"):
            encoder.encode(numbered(0, 9))
        with pytest.raises(ValueError, match="expected I420"):
            encoder.encode([numbered(0, 1)[0], np.zeros((SIDE, SIDE), np.uint8)])
        with pytest.raises(ValueError, match="mono"):
            encoder.push_audio(np.zeros((2, 10), np.float32))
        with pytest.raises(ValueError, match="too few"):
            encoder.finish_audio(8)
        first = encoder.encode(numbered(0, 6))
        with pytest.raises(ValueError, match="inside one segment"):
            encoder.encode(numbered(6, 3))
        second = encoder.encode(numbered(6, 2))
    assert watch(INIT + first + second)[0] == [(i, i) for i in range(8)]


def test_a_fragment_can_be_moved_with_the_init_segment_before_it_and_back() -> None:
    fragments = film(np.zeros(20_000, np.float32))
    for data, later in zip(fragments, placed(fragments, 3), strict=True):
        assert moved(data, 3 * 8) == later and moved(later, -3 * 8) == data
        assert moved(INIT + data, 3 * 8) == INIT + later


@pytest.mark.parametrize("first_frame", [8, 16, 48])
def test_an_encoder_goes_on_where_another_was_cut_off(first_frame: int) -> None:
    rng = np.random.default_rng(3)
    voiced = 1 + 0.7 * np.sin(2 * np.pi * 3 * np.arange(60_000) / 24_000)
    pcm = (0.15 * voiced * np.convolve(rng.standard_normal(60_000), np.hanning(9) / 4, "same")).astype(np.float32)
    whole, rest = film(pcm), film(pcm, first_frame=first_frame)
    cut = [data for data in whole if parse_fragments(data)[0].tracks[0].decode_time < first_frame * 512]
    sequence = [info.sequence for data in cut + rest for info in parse_fragments(data)]
    assert sequence == sorted(set(sequence))
    shown, sound, _ = watch(INIT + b"".join(whole))
    shown_cut, sound_cut, first = watch(INIT + b"".join(cut + rest))
    assert shown_cut == shown and first == 0 and len(sound_cut) == len(sound)
    join = 1_920 * first_frame
    error, codec = np.abs(sound_cut - sound), np.abs(sound - doubled(pcm, len(sound)))
    assert error[: join - 1_024].max() == 0
    # No more than what the codec itself does to it, at the join as anywhere.
    assert error[join - 1_024 : join + 2_048].max() <= codec.max() and error.max() <= codec.max()

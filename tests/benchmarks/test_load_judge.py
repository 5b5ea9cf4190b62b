"""The judges of the load harness tell what is right from what is late, broken, cut or somebody else's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from benchmarks.load.clients import Boxes, Service, wishes
from benchmarks.load.judge import Judge, Played
from benchmarks.load.marks import COLOURS, SYMBOL_S, colour_of, listen, painted, pattern, picture_of, recording
from benchmarks.load.report import broken, figures
from configs.models import load_config
from museserve.app.inprocess import LocalPipeline
from museserve.media.fragments import STREAM_END
from museserve.messages import VideoRequest
from museserve.timebase import FPS, SEGMENT_FRAMES, SEGMENT_S
from tests.museserve.media.isobmff import parse_fragments, rebase
from tests.sounds import encoded

SECONDS = 3.2
SHIPPED = Path(__file__).parents[2] / "musetalk" / "avatars" / "shipped" / "interviewer_woman" / "portrait.png"


@dataclass(frozen=True)
class Film:
    init: bytes
    fragments: tuple[bytes, ...]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    """What the service makes of the pattern `a/1`, with a red avatar."""
    import asyncio

    from musetalk.avatars.from_portrait import prepare_portrait

    home = tmp_path_factory.mktemp("film")
    config = load_config("local", {"avatars": {"uri": str(home)}, "cache": {"enabled": False}})
    local = LocalPipeline(config)
    prepare_portrait(painted(SHIPPED.read_bytes(), "red"), id="red", store=local.store, media=config.mux.media)
    request = VideoRequest("", "red", None, encoded(recording("a/1", SECONDS), "wav"), paced=False)
    made = asyncio.run(local.fragments(request))
    boxes = Boxes()
    found = [each for fragment in made for each in boxes.feed(fragment.data)]
    assert [kind for kind, _ in found[:2]] == ["init", "fragment"]
    return Film(found[0][1], tuple(data for kind, data in found[1:]))


def judged(film: Film, times: Callable[[int, float], float] = lambda n, begins: 0.1 + 0.01 * n, key: str = "a/1", colour: str = "red") -> Played:
    """times: (number, media time) of a fragment to when it came; asked for at 0."""
    played = Played("a", "video", key)
    judge = Judge(played, film.init)
    for n, data in enumerate(film.fragments):
        judge.fragment(data, times(n, parse_fragments(data)[0].tracks[0].decode_time / 12_800))
    judge.marks(SECONDS, colour, {"a/1": SECONDS, "b/1": SECONDS})
    played.end = "whole"
    return played


def test_what_is_right_is_found_right(film: Film) -> None:
    played = judged(film)
    assert (played.order, played.sound, played.picture, played.late) == ([], "", "", [])
    assert played.judged == ["sound", "picture"]
    assert played.first_s == pytest.approx(0.1) and played.frames / FPS >= SECONDS
    assert broken(figures([played]), 1_000) == []


def test_a_late_fragment_is_an_underrun_and_delays_what_follows(film: Film) -> None:
    late = 4
    played = judged(film, lambda n, begins: begins + (0.5 if n >= late else 0.1))
    # It played from the arrival of the second fragment, whose media time is 0.08 s.
    assert played.began == pytest.approx(0.18)
    assert played.late == [pytest.approx(0.5 - 0.18)]
    assert "1 underruns" in broken(figures([played]), 1_000)


def test_a_stream_that_is_exactly_in_time_has_no_underrun(film: Film) -> None:
    played = judged(film, lambda n, begins: 0.18 if n < 2 else begins + 0.17)
    assert played.late == [] and played.least_in_hand_s == pytest.approx(0.01)


@pytest.mark.parametrize("fault", ["missing", "twice", "swapped"])
def test_fragments_that_do_not_follow_each_other(film: Film, fault: str) -> None:
    parts = list(film.fragments)
    if fault == "missing":
        del parts[3]
    elif fault == "twice":
        parts.insert(3, parts[2])
    else:
        parts[3], parts[4] = parts[4], parts[3]
    assert judged(Film(film.init, tuple(parts))).order


def test_sound_that_goes_on_at_another_time_than_the_pictures(film: Film) -> None:
    moved = [rebase(data, {2: parse_fragments(data)[0].tracks[1].decode_time + 4_800}) if n > 2 else data for n, data in enumerate(film.fragments)]
    played = judged(Film(film.init, tuple(moved)))
    assert any("sound ends" in fault for fault in played.order)


def test_somebody_elses_sound_and_picture_are_told(film: Film) -> None:
    played = judged(film, key="b/1", colour="green")
    assert "it is that of a/1" in played.sound
    assert played.picture == "red instead of green"
    assert broken(figures([played]), 1_000) == ["1 foreign_sound", "1 foreign_pictures"]


@pytest.mark.parametrize(("pieces", "judged_too"), [(2, ["picture"]), (4, ["sound", "picture"])])
def test_a_piece_too_short_for_a_mark_is_nobodys_sound(film: Film, pieces: int, judged_too: list[str]) -> None:
    played = judged(Film(film.init, film.fragments[:pieces]))
    assert (played.judged, played.sound, played.picture) == (judged_too, "", "")


def test_another_voice_below_ones_own_is_heard() -> None:
    own, other = recording("a/1", SECONDS), recording("b/1", SECONDS)
    alone, both = np.repeat(own, 2), np.repeat(own + 0.8 * other, 2)
    assert listen(alone, "a/1", SECONDS).own
    assert not listen(both, "a/1", SECONDS).own


def test_sound_that_is_shifted_by_a_segment_is_not_ones_own() -> None:
    pcm = np.repeat(recording("a/1", SECONDS), 2)
    shifted = np.concatenate([np.zeros(round(SEGMENT_S * 48_000), np.float32), pcm])
    assert not listen(shifted, "a/1", SECONDS).own


def test_patterns_differ_and_never_repeat_a_tone() -> None:
    symbols = round(SECONDS / SYMBOL_S)
    a, b = pattern("a/1", symbols), pattern("a/2", symbols)
    assert (np.diff(a) != 0).all() and (a == b).mean() < 0.4
    assert (pattern("a/1", 4 * symbols)[:symbols] == a).all()


@pytest.mark.parametrize("colour", COLOURS)
def test_a_painted_portrait_has_its_colour(colour: str) -> None:
    import cv2

    picture = cv2.imdecode(np.frombuffer(painted(SHIPPED.read_bytes(), colour), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None and colour_of(np.asarray(picture[..., ::-1], np.uint8)) == colour


def test_an_unpainted_picture_has_none(film: Film) -> None:
    picture = picture_of(film.init + film.fragments[0])
    assert colour_of(picture) == "red" and colour_of(np.full_like(picture, 128)) == ""


def test_boxes_come_whole_however_the_bytes_are_cut(film: Film) -> None:
    stream = film.init + b"".join(film.fragments) + STREAM_END
    for size in (1_000, 7_919, len(stream)):
        boxes = Boxes()
        found = [each for at in range(0, len(stream), size) for each in boxes.feed(stream[at : at + size])]
        assert found == [("init", film.init), *(("fragment", data) for data in film.fragments)] and boxes.ended
    boxes = Boxes()
    boxes.feed(stream[:-1])
    assert not boxes.ended


def test_a_client_asks_for_the_same_again_with_the_same_seed() -> None:
    def asked(seed: int) -> list[tuple[str, float]]:
        wish = wishes(Service("", run="r"), "client1", seed)
        return [(each.text, each.sound_s) for each in (wish() for _ in range(20))]

    assert asked(1) == asked(1) != asked(2)
    assert {bool(text) for text, _ in asked(1)} == {True, False}


def test_whole_segments_end_together(film: Film) -> None:
    """What the judge's rule about both tracks' ends stands on."""
    assert (judged(film).frames % SEGMENT_FRAMES) == 0

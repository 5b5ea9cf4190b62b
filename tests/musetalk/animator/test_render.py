"""Talking frames: they join the background without a step, lips meet, and threads do not disturb each other."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from benchmarks.lips.picture import without_sway
from museserve.messages import Box
from museserve.timebase import IDLE_FRAMES
from musetalk.animator import render
from musetalk.animator.colors import Planes
from musetalk.animator.fields import SPEECH_FIELDS
from musetalk.animator.gaze import texture_with_eyes
from musetalk.animator.lipline import INNER_LOWER, INNER_UPPER
from musetalk.animator.mouth import Opening, draw_mouth
from musetalk.animator.render import crop_i420, i420_planes, idle_frame, render_crop
from musetalk.animator.rig import Rig
from musetalk.speech_cues.controls import N_CONTROLS
from tests.musetalk.animator.test_rig import NAMES, portrait, row

A = {"jaw": 0.64, "lower_drop": 0.15, "upper_raise": 0.25, "wide": 0.1}
SHAPES = {
    "a": A,
    "i": {"jaw": 0.18, "lower_drop": 0.45, "upper_raise": 0.32, "wide": 0.65},
    "o": {"jaw": 0.48, "lower_drop": 0.1, "upper_raise": 0.15, "round": 0.6},
    "f": {"jaw": 0.07, "wide": 0.1, "ftuck": 1.0},
    "m": {"jaw": 0.24, "lip_close": 0.24, "press": 0.75},
    "accent": {**A, "nod": 2.6, "rise": -0.9, "turn": -2.0, "brow_up": 0.8, "gaze_x": 0.7, "gaze_y": -0.4, "smile": 0.4},
}


@pytest.fixture(scope="module", params=NAMES)
def rig(request: pytest.FixtureRequest) -> Rig:
    return Rig.build(*portrait(request.param))


def background(rig: Rig, n: int) -> np.ndarray:
    return crop_i420(idle_frame(rig, n), rig.box)


def difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(one.astype(np.int16) - other.astype(np.int16))


def mouth_window(rig: Rig) -> tuple[slice, slice]:
    """The mouth in the crop's luma."""
    x0, x1 = rig.landmarks[[61, 291], 0] - rig.box.x
    y = rig.landmarks[13, 1] - rig.box.y
    return slice(int(y - 8 * rig.anatomy.scale), int(y + 20 * rig.anatomy.scale)), slice(int(x0), int(x1))


@pytest.mark.parametrize("n", [0, 57, IDLE_FRAMES - 1])
def test_zero_row_is_the_background(rig: Rig, n: int) -> None:
    assert np.array_equal(render_crop(rig, n, row()), background(rig, n))


@pytest.mark.parametrize("n", [3, 90, 201])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_step_at_the_border_of_the_box(rig: Rig, n: int, shape: str) -> None:
    spoken, silent = i420_planes(render_crop(rig, n, row(**SHAPES[shape]))), i420_planes(background(rig, n))
    for one, other, something in ((spoken.luma, silent.luma, 8), (spoken.u, silent.u, 3), (spoken.v, silent.v, 3)):
        changed = difference(one, other)
        assert max(changed[0].max(), changed[-1].max(), changed[:, 0].max(), changed[:, -1].max()) <= 1
        assert changed.max() > something  # inside; chroma moves less than luma


def test_a_little_speech_is_a_little_change(rig: Rig) -> None:
    little = {name: value * 0.01 for name, value in A.items()}
    assert difference(render_crop(rig, 40, row(**little)), background(rig, 40)).mean() < 0.15


def test_open_mouth_shows_an_interior_and_closed_lips_do_not(rig: Rig) -> None:
    window = mouth_window(rig)

    def dark(crop: np.ndarray) -> int:
        return int((i420_planes(crop).luma[window] < 60).sum())

    rest = dark(background(rig, 10))
    assert dark(render_crop(rig, 10, row(**A))) > rest + 100
    for jaw in (0.2, 0.4, 0.6):
        closed = render_crop(rig, 10, row(jaw=jaw, lip_close=jaw))
        assert dark(closed) <= rest * 1.25 + 4, f"jaw {jaw}"


def test_little_light_falls_on_teeth_in_the_corners_and_behind_a_slit(rig: Rig) -> None:
    still = without_sway(rig)

    def lightest(x: slice, **controls: float) -> float:
        """Luma of what is light between the lips, as a share of the skin's around them."""
        rest, crop = (i420_planes(render_crop(still, 0, row(**shape))).luma for shape in ({"seal": 1.0}, controls))
        rows, columns = mouth_window(rig)
        width = columns.stop - columns.start
        part = slice(columns.start + int(x.start * width), columns.start + int(x.stop * width))
        inside = _between_lips(still, part, **controls)
        assert inside.sum() > 4
        return float(np.percentile(crop[:, part][inside], 90)) / float(np.median(rest[rows, part]))

    middle, corner = slice(0.4, 0.6), slice(0.1, 0.2)
    teeth = {"jaw": 0.2, "lower_drop": 0.45, "upper_raise": 0.32}
    assert lightest(corner, **teeth) < 0.75 * lightest(middle, **teeth)
    assert lightest(middle, jaw=0.1) < 0.75 * lightest(middle, **teeth)


@pytest.mark.parametrize("shape", [{"jaw": 0.25, "lower_drop": 0.35, "upper_raise": 0.3}, {"jaw": 0.6, "lower_drop": 0.2, "upper_raise": 0.3}])
def test_corners_are_lined_and_not_black(rig: Rig, shape: dict[str, float]) -> None:
    still = without_sway(rig)
    planes = i420_planes(render_crop(still, 0, row(**shape)))
    columns = mouth_window(rig)[1]
    width = columns.stop - columns.start
    for first, last in ((0.06, 0.16), (0.84, 0.94)):
        part = slice(columns.start + int(first * width), columns.start + int(last * width))
        inside = _between_lips(still, part, **shape)
        assert inside.sum() > 8
        assert np.median(planes.luma[:, part][inside]) > 42  # black is 16
        redder = planes.v.astype(int) - planes.u
        assert np.median(np.kron(redder, np.ones((2, 2), int))[:, part][inside]) > 8


@pytest.mark.parametrize("jaw", [0.2, 0.3, 0.45, 0.6])
def test_teeth_go_on_to_the_corners(rig: Rig, jaw: float) -> None:
    """Light under the upper lip fades towards a corner and does not end before it."""
    still = without_sway(rig)
    shape = {"jaw": jaw, "lower_drop": 0.3, "upper_raise": 0.3}
    luma = i420_planes(render_crop(still, 0, row(**shape))).luma
    columns = mouth_window(rig)[1]
    width = columns.stop - columns.start
    dark = _cavity(still, shape)
    for side in (1, -1):
        places = [columns.start + round((0.5 + side * reach / 2) * width) for reach in (0.45, 0.6, 0.72)]
        lit = [float(luma[:, x : x + 2][_between_lips(still, slice(x, x + 2), **shape)].max()) for x in places]
        assert lit[0] > lit[1] > lit[2] > dark + 12


def _cavity(rig: Rig, shape: dict[str, float]) -> float:
    """Luma of the darkest that is seen between the lips' middles."""
    columns = mouth_window(rig)[1]
    middle = (columns.start + columns.stop) // 2
    part = slice(middle - 12, middle + 12)
    return float(np.percentile(i420_planes(render_crop(rig, 0, row(**shape))).luma[:, part][_between_lips(rig, part, **shape)], 2))


@pytest.mark.parametrize("jaw", [0.15, 0.22, 0.3, 0.4])
def test_rows_of_teeth_do_not_touch(rig: Rig, jaw: float) -> None:
    """Down through the middle of a front tooth there is one light row, or a dark line between two."""
    still = without_sway(rig)
    shape = {"jaw": jaw, "lower_drop": 0.6, "upper_raise": 0.2}
    luma = i420_planes(render_crop(still, 0, row(**shape))).luma
    columns = mouth_window(rig)[1]
    x = (columns.start + columns.stop) // 2 + int(3.0 * rig.anatomy.scale)
    inside = np.flatnonzero(_between_lips(still, slice(x, x + 1), **shape))
    line = luma[inside[0] : inside[-1] + 1, x - 1 : x + 2].mean(1)
    upper = int(np.argmax(line[: len(line) // 2 + 1]))
    below = line[upper + 1 :]
    lowest = int(np.argmin(below))
    lower = float(below[lowest:].max())
    assert lower < 0.55 * line[upper] or below[lowest] < 0.75 * min(line[upper], lower)


def test_a_jaw_takes_the_corners_of_a_smile_down(rig: Rig) -> None:
    smile = SPEECH_FIELDS.index("smile")
    pulled = [float(render.fit_row(rig, row(jaw=jaw)).weights[smile]) for jaw in (0.0, 0.1, 0.2, 0.4, 0.8)]
    assert pulled[0] == 0.0 and pulled[1] > pulled[2] > pulled[3] and pulled[3] == pulled[4] < -0.2


def _between_lips(rig: Rig, columns: slice, **controls: float) -> np.ndarray:
    """Pixels (h, n) of these columns of the crop's luma that lie between the moved lips."""
    weights = np.concatenate([rig.motion.weights[0], render.fit_row(rig, row(**controls)).weights])
    x = np.arange(columns.start, columns.stop)
    upper, lower = (
        np.interp(x + rig.box.x, points[:, 0], points[:, 1]) - rig.box.y
        for points in (render.moved(contour, weights) for contour in (rig.upper_contour, rig.lower_contour))
    )
    y = np.arange(rig.box.h)[:, None]
    return (y > upper) & (y < lower)


def test_bilabials_are_shut(rig: Rig) -> None:
    """Contours after the warp: the gap at p, b, m is under 15 % of the speaking range."""

    def gap(**controls: float) -> float:
        weights = np.concatenate([rig.motion.weights[0], render.fit_row(rig, row(**controls)).weights])
        upper, lower = (render.moved(contour, weights) for contour in (rig.upper_contour, rig.lower_contour))
        return float((lower - upper)[:, 1].max()) / rig.anatomy.scale

    wide_open = gap(**A)
    assert wide_open > 7
    for controls in (SHAPES["m"], {"jaw": 0.6, "lip_close": 0.6}, {"jaw": 0.3, "lip_close": 0.3, "press": 0.75, "round": 0.5}):
        assert gap(**controls) < 0.15 * wide_open


def test_rounding_narrows_the_opening(rig: Rig) -> None:
    window = mouth_window(rig)

    def width(**controls: float) -> int:
        dark = i420_planes(render_crop(rig, 10, row(**controls))).luma[window] < 60
        columns = np.nonzero(dark.sum(0) >= 2)[0]
        return int(columns[-1] - columns[0])

    assert width(jaw=0.5, round=0.8) < 0.85 * width(jaw=0.5)


def test_gaze_moves_the_eyes_only(rig: Rig) -> None:
    changed = difference(render_crop(rig, 20, row(gaze_x=1.0)), background(rig, 20))
    luma = changed[: rig.box.h]
    rows, columns = np.nonzero(luma > 2)
    eyes = rig.landmarks[[33, 133, 362, 263, 159, 145, 386, 374]] - [rig.box.x, rig.box.y]
    margin = 6 * rig.anatomy.scale
    assert len(rows) > 20
    assert rows.min() > eyes[:, 1].min() - margin and rows.max() < eyes[:, 1].max() + margin
    assert columns.min() > eyes[:, 0].min() - margin and columns.max() < eyes[:, 0].max() + margin


def test_threads_draw_the_same(rig: Rig) -> None:
    jobs = [(n, row(**SHAPES[name])) for n in range(0, 40, 4) for name in SHAPES]
    alone = [render_crop(rig, n, controls) for n, controls in jobs]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda job: render_crop(rig, *job), jobs))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_a_row_of_another_length_is_refused(rig: Rig) -> None:
    with pytest.raises(ValueError, match=f"{N_CONTROLS} controls"):
        render_crop(rig, 0, np.zeros(7, np.float32))


@pytest.fixture(scope="module")
def smiling() -> Rig:
    """A photograph with an open smile: a drawn frame of the woman taken as a portrait, its inner lip landmarks moved along."""
    source = Rig.build(*portrait(NAMES[0]), 1024)
    controls = row(upper_raise=1.0, lower_drop=1.0, wide=0.5)
    picture, crop, box = i420_planes(idle_frame(source, 0).copy()), i420_planes(render_crop(source, 0, controls)), source.box
    for whole, part, half in ((picture.luma, crop.luma, 1), (picture.u, crop.u, 2), (picture.v, crop.v, 2)):
        whole[box.y // half : (box.y + box.h) // half, box.x // half : (box.x + box.w) // half] = part
    i420 = np.concatenate([picture.luma.reshape(-1), picture.u.reshape(-1), picture.v.reshape(-1)]).reshape(1536, 1024)
    weights = np.concatenate([source.motion.weights[0], render.fit_row(source, controls).weights])
    landmarks = portrait(NAMES[0])[1].copy()
    for numbers, contour in ((INNER_UPPER, source.upper_contour), (INNER_LOWER, source.lower_contour)):
        moved = render.moved(contour, weights) + 0.5
        for number in numbers:
            landmarks[number, 1] = np.interp(landmarks[number, 0], moved[:, 0], moved[:, 1])
    return Rig.build(np.asarray(cv2.cvtColor(i420, cv2.COLOR_YUV2RGB_I420), np.uint8), landmarks)


def test_a_smiling_photograph_is_known_and_kept_at_rest(smiling: Rig) -> None:
    assert smiling.line.is_open and smiling.teeth is not None
    assert np.array_equal(render_crop(smiling, 0, row()), background(smiling, 0))
    assert difference(render_crop(smiling, 0, row(nod=0.01)), background(smiling, 0)).max() <= 12  # no shading on the photographed teeth


def test_a_smiling_photograph_closes_for_speech(smiling: Rig) -> None:
    def gap(**controls: float) -> float:
        weights = np.concatenate([smiling.motion.weights[0], render.fit_row(smiling, row(**controls)).weights])
        upper, lower = (render.moved(contour, weights) for contour in (smiling.upper_contour, smiling.lower_contour))
        return float((lower - upper)[:, 1].max()) / smiling.anatomy.scale

    assert gap() > 3.2
    assert gap(seal=1.0) < 0.1
    assert gap(seal=1.0, jaw=0.4, lip_close=0.4, press=0.75) < 0.1
    assert gap(seal=1.0, **A) > 4

    def redness(crop: np.ndarray) -> float:
        rows, columns = (slice(part.start // 2, part.stop // 2) for part in mouth_window(smiling))
        middle = (columns.start + columns.stop) // 2
        lips = i420_planes(crop).v[rows, middle - 8 : middle + 8]
        return float(lips[4:10].mean())

    assert redness(render_crop(smiling, 0, row(seal=1.0))) > redness(background(smiling, 0)) + 3  # lips where teeth were


def test_a_frame_does_not_depend_on_those_drawn_before_it(rig: Rig, smiling: Rig) -> None:
    """Eyes stay in the texture from one frame to the next, and where they looked before is kept: for each rig, on each thread."""
    looks = [(n, row(**A, gaze_x=x, blink=shut)) for n, x, shut in ((3, 0.0, 0.0), (90, 0.9, 0.0), (91, 0.9, 0.0), (200, -0.6, 1.0), (7, 0.0, 0.4))]
    with ThreadPoolExecutor(1) as other:
        drawn = [other.submit(render_crop, rig, n, look).result() for n, look in looks]
    for n in range(0, IDLE_FRAMES, 3):  # more looks than are kept
        render_crop(rig, n, row(gaze_x=n / IDLE_FRAMES, gaze_y=-n / IDLE_FRAMES))
    for (n, look), expected in zip(reversed(looks), reversed(drawn), strict=True):
        render_crop(smiling, n, look)
        assert np.array_equal(render_crop(rig, n, look), expected)


def test_nothing_of_a_face_outlives_its_rig(rig: Rig) -> None:
    own = Rig.from_arrays({name: array.copy() for name, array in rig.to_arrays().items()})
    render_crop(own, 0, row(**A))
    texture = weakref.ref(texture_with_eyes(own, 0.0, (0.0, 0.0)).luma)
    assert texture() is not None
    del own
    gc.collect()
    assert texture() is None


@pytest.mark.parametrize("gap", [0.6, 1.0, 3.3, 14.0])
def test_a_mouth_covers_as_much_wherever_it_lies_between_the_pixels(rig: Rig, gap: float) -> None:
    """gap: pixels. Lips that drift by parts of a pixel do not flicker."""

    def darkened(down: float) -> float:
        columns = np.arange(20, 81, dtype=np.float32)
        upper = np.full(len(columns), 30 + down, np.float32)
        scale, straight = 1.2, [[1.2, 0.0, 50.0], [0.0, 1.2, 30.0 + down]]
        flat = np.zeros_like(columns)
        opening = Opening(columns, upper, upper + np.float32(gap), flat, scale, jaw=3.0, tongue=0.0, rounding=0.0, presence=1.0, skull=straight)
        planes = Planes(np.full((80, 100), 255, np.uint8), np.full((40, 50), 128, np.uint8), np.full((40, 50), 128, np.uint8))
        draw_mouth(planes, opening, rig.mouth, None)
        return float((255 - planes.luma[:, 40:60].astype(np.float32)).sum() / 20)

    found = [darkened(down) for down in np.linspace(0, 1, 9)]
    assert max(found) - min(found) < 0.06 * max(found)


def test_cutting_a_box_keeps_the_planes_apart() -> None:
    picture = np.concatenate([np.full((8, 12), 1, np.uint8), np.full((2, 12), 2, np.uint8), np.full((2, 12), 3, np.uint8)])
    planes = i420_planes(crop_i420(picture, Box(4, 2, 6, 4)))
    assert (planes.luma == 1).all() and planes.luma.shape == (4, 6)
    assert (planes.u == 2).all() and (planes.v == 3).all() and planes.u.shape == (2, 3)

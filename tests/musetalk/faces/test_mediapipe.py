"""Finding faces and reporting on them, on real pictures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from museserve.errors import EngineError, ImageError
from musetalk.avatars.builtin import shipped_portrait
from musetalk.faces.mediapipe import FaceDetector, find_faces, quiet_stderr
from musetalk.faces.quality import FaceReport, assess_portrait
from tests.musetalk.pictures import in_a_crowd, man, photo, tilted, turned, woman

ROOT = Path(__file__).parents[3]


def report_on(picture):
    return assess_portrait(picture, find_faces(picture))[1]


@pytest.mark.parametrize("name", ["interviewer_woman", "interviewer_man"])
def test_shipped_landmarks_are_those_that_are_found(name):
    shipped = shipped_portrait(name)
    (face,) = find_faces(shipped.portrait)
    assert face.landmarks.shape == (478, 3) and face.landmarks.dtype == np.float32
    assert np.abs(face.landmarks[:, :2] - shipped.landmarks[:, :2]).mean() < 3


@pytest.mark.parametrize("picture", [woman, man])
def test_shipped_portraits_have_nothing_to_complain_about(picture):
    report = report_on(picture())
    assert report.warnings == () and report.covered == ()
    assert report.mouth == "closed" and report.mouth_gap_mm < 1.5
    assert abs(report.yaw) < 2 and abs(report.pitch) < 6 and abs(report.roll) < 2
    assert 140 < report.iris_px < 170 and report.faces == 1
    assert report.eyes_open > 0.8 and report.glasses < 0.5 and report.sharpness > 50
    assert FaceReport.model_validate_json(json.dumps(report.model_dump(mode="json"))) == report


def test_a_smile_is_accepted_and_told():
    report = report_on(photo("astronaut.jpg"))
    assert report.mouth == "open" and 6 < report.mouth_gap_mm < 14
    assert any("mouth is open" in warning for warning in report.warnings)
    assert any("face is small (43 pixels" in warning for warning in report.warnings)


@pytest.mark.parametrize("degrees", [-40, -15, 15, 40, 90, 180 - 85])
def test_roll_is_measured(degrees):
    (face,) = find_faces(tilted(woman(), degrees))
    assert face.roll == pytest.approx(degrees, abs=3)
    assert abs(face.yaw) < 4


@pytest.mark.parametrize(
    "picture", [woman, man, lambda: photo("astronaut.jpg"), lambda: tilted(woman(), 25)], ids=["woman", "man", "photo", "tilted"]
)
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_picture_lying_or_upside_down_has_the_same_face(picture, quarters):
    """Landmarkers see a face in an upside-down one, with its eyes where the mouth is."""
    upright = picture()
    (expected,) = find_faces(upright)
    (face,) = find_faces(np.ascontiguousarray(np.rot90(upright, quarters)))
    assert abs((face.roll - expected.roll - 90 * quarters + 180) % 360 - 180) < 5
    side = upright.shape[0]
    x, y = face.landmarks[:, 0], face.landmarks[:, 1]
    back = {1: (side - y, x), 2: (side - x, side - y), 3: (y, side - x)}[quarters]
    assert np.abs(np.stack(back, 1) - expected.landmarks[:, :2]).mean() < 0.04 * expected.span_px
    assert any("turned upright" in warning for warning in report_on(np.ascontiguousarray(np.rot90(upright, quarters))).warnings)


def test_yaw_has_the_sign_of_the_side_and_is_refused_when_large():
    (right,) = find_faces(turned(woman(), 30))
    (left,) = find_faces(turned(woman(), -30))
    assert 9 < right.yaw < 15 and -15 < left.yaw < -9
    assert any("head is turned" in warning for warning in report_on(turned(woman(), 30)).warnings)
    with pytest.raises(ImageError, match=r"turned (1[6-9]|2\d) degrees to the picture's right; up to 15"):
        report_on(turned(woman(), 45))
    with pytest.raises(ImageError, match=r"turned (1[6-9]|2\d) degrees to the picture's left"):
        report_on(turned(woman(), -45))


def test_a_face_beside_the_middle_is_not_taken_for_a_turned_one():
    picture = np.pad(woman(), ((0, 0), (1500, 0), (0, 0)), mode="edge")
    assert abs(report_on(picture).yaw) < 3


def test_a_small_face_in_a_large_picture_is_found_exactly():
    picture = in_a_crowd(woman(), 420)
    (face,) = find_faces(picture)
    shipped = shipped_portrait("interviewer_woman").landmarks[:, :2] * (420 / 1024) + [2000, 1000]
    assert np.abs(face.landmarks[:, :2] - shipped).mean() < 2


def test_a_face_of_too_few_pixels_is_refused_with_the_number():
    with pytest.raises(ImageError, match=r"too small: 3\d pixels between the eyes, at least 40"):
        report_on(in_a_crowd(woman(), 230, 1200, 900))


def test_no_face():
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    for picture in (noise, np.full((600, 800, 3), 200, np.uint8), woman()[800:]):
        with pytest.raises(ImageError, match=r"no face was found in the picture \(\d+ x \d+ pixels\); one face"):
            report_on(picture)


def test_two_faces_of_a_size_are_refused():
    with pytest.raises(ImageError, match=r"2 faces of similar size .* 8\d % of the largest"):
        report_on(np.hstack([woman(), man()]))


def test_of_a_large_and_a_small_face_the_large_one_is_taken():
    picture = woman().copy()
    picture[60:360, 700:1000] = cv2.resize(man(), (300, 300), interpolation=cv2.INTER_AREA)
    face, report = assess_portrait(picture, find_faces(picture))
    assert report.faces == 2 and face.span_px > 140
    assert "2 faces were found; the largest is used" in report.warnings


@pytest.mark.parametrize(
    ("edge", "cut"),
    [("left", np.s_[:, 420:]), ("right", np.s_[:, :600]), ("lower", np.s_[:600])],
)
def test_a_cut_off_face_is_refused_with_its_edge(edge, cut):
    with pytest.raises(ImageError, match=rf"cut off: \d+ % of it lies beyond the picture's {edge} edge"):
        report_on(np.ascontiguousarray(woman()[cut]))


def test_closed_eyes_are_refused():
    with pytest.raises(ImageError, match=r"eyes are closed \(blink score 0\.\d+"):
        report_on(photo("eyes_closed.jpg"))


def with_glasses(fill):
    picture = woman().copy()
    for centre in ((438, 395), (585, 395)):
        cv2.ellipse(picture, centre, (58, 42), 0, 0, 360, (20, 20, 20), fill, cv2.LINE_AA)
    cv2.line(picture, (494, 385), (529, 385), (20, 20, 20), 7, cv2.LINE_AA)
    return picture


def test_glasses_are_told():
    report = report_on(with_glasses(7))
    assert report.glasses > 1 and any("glasses" in warning for warning in report.warnings)
    assert report.covered == ()


def test_dark_glasses_cover_the_eyes():
    assert set(report_on(with_glasses(-1)).covered) == {"left eye", "right eye"}


def test_a_mask_is_refused():
    picture = woman().copy()
    cv2.fillConvexPoly(picture, np.array([[340, 480], [512, 450], [690, 480], [680, 600], [512, 690], [350, 600]]), (150, 200, 230))
    with pytest.raises(ImageError, match="mouth and nose look covered"):
        report_on(picture)


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        (lambda picture: cv2.GaussianBlur(picture, (0, 0), 8), "picture is soft"),
        (lambda picture: (picture * 0.2).astype(np.uint8), "face is dark"),
        (lambda picture: np.clip(picture.astype(int) + 90, 0, 255).astype(np.uint8), "very bright"),
        (lambda picture: (picture * np.clip((np.arange(1024) - 400) / 250, 0.1, 1)[None, :, None]).astype(np.uint8), "uneven"),
    ],
)
def test_what_could_be_better_is_told(change, warning):
    assert any(warning in text for text in report_on(change(woman())).warnings)


def test_grey_pictures_have_faces_too():
    grey = np.repeat(cv2.cvtColor(woman(), cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    assert report_on(grey).covered == ()


def test_threads_share_the_detector():
    alone = find_faces(woman())[0].landmarks
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(find_faces, [woman(), man(), woman(), np.zeros((300, 300, 3), np.uint8)]))
    assert [len(faces) for faces in found] == [1, 1, 1, 0]
    np.testing.assert_array_equal(found[0][0].landmarks, alone)
    np.testing.assert_array_equal(found[2][0].landmarks, alone)


def test_a_closed_detector_says_so():
    detector = FaceDetector()
    detector.close()
    detector.close()
    with pytest.raises(EngineError, match="closed"):
        detector.find(woman())


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(EngineError, match=r"face\.task is missing"):
        FaceDetector(tmp_path / "face.task")


def test_the_detector_is_silent_from_start_to_exit():
    code = "from tests.musetalk.pictures import woman\nfrom musetalk.faces.mediapipe import FaceDetector, find_faces\nimport sys\n"
    code += "print(len(find_faces(woman())))\nkept = FaceDetector()\nprint('mine', file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "1\n", "mine\n")


def test_mediapipe_is_imported_only_when_a_face_is_looked_for():
    code = (
        "import sys; from musetalk.faces import mediapipe, quality, framing; from musetalk.avatars import from_portrait; "
        "print('mediapipe' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


def test_only_start_up_chatter_is_kept_from_stderr(capfd):
    with quiet_stderr():
        os.write(
            2, b"W0000 00:00:1795393038.301484    7971 graph.cc:181] Sets acceleration\nINFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"
        )
        os.write(2, b"something of somebody else\n")
    os.write(2, b"and after\n")
    assert capfd.readouterr().err == "something of somebody else\nand after\n"

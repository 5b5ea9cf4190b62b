"""Decoding, mirroring and back-projection by geometry; equality with rtmlib where the two do the same."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

rtmpose = pytest.importorskip("rtmlib.tools.pose_estimation.rtmpose", reason="rtmlib is not installed: pip install 'museserve[neural]'")
from museserve.errors import EngineUnavailableError  # noqa: E402
from musetalk.faces.dwpose import FACE, MIRRORED, N_KEYPOINTS, DWPose, person_scale  # noqa: E402
from tests.musetalk.faces.pose_graph import blob, pose_network  # noqa: E402
from tests.musetalk.pictures import woman  # noqa: E402


def symmetric_offsets(seed=0):
    """Offsets of a person: what is mirrored lies mirrored."""
    random = np.random.default_rng(seed)
    offsets = random.integers(-60, 61, (N_KEYPOINTS, 2))
    for k, other in enumerate(MIRRORED):
        if other > k:
            offsets[other] = offsets[k] * (-1, 1)
        elif other == k:
            offsets[k, 0] = 0
    return offsets


@pytest.fixture(scope="module")
def symmetric(tmp_path_factory):
    path = tmp_path_factory.mktemp("pose") / "symmetric.onnx"
    return pose_network(path, symmetric_offsets(), np.zeros(N_KEYPOINTS, int))


@pytest.fixture(scope="module")
def lopsided(tmp_path_factory):
    """Offsets and colours without any symmetry."""
    random = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("pose") / "lopsided.onnx"
    return pose_network(path, random.integers(-60, 61, (N_KEYPOINTS, 2)), random.integers(0, 3, N_KEYPOINTS))


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1280, 720), (512, 512), (405, 720)])
def test_keypoints_stand_where_the_spot_is(symmetric, width, height):
    x, y = 0.45 * width, 0.55 * height
    scale = person_scale(width, height)
    bin_px = scale / (576, 768)
    points, scores = DWPose(symmetric).keypoints(blob(width, height, x, y, 12 * bin_px[0], (255, 0, 0)))
    expected = np.array([x, y]) + symmetric_offsets() * bin_px * 2
    assert np.abs(points - expected).max() <= 1.01 * bin_px.max()
    assert (scores > 0).all()


def test_bins_are_as_coarse_as_published():
    assert (person_scale(1920, 1080) / (576, 768)).max() == pytest.approx(4.17, abs=0.005)
    assert (person_scale(1280, 720) / (576, 768)).max() == pytest.approx(2.78, abs=0.005)
    assert (person_scale(1080, 1080) / (576, 768)).max() == pytest.approx(2.34, abs=0.01)


def test_a_blue_spot_is_not_a_red_one(symmetric):
    """The keypoints look at the first plane, which is red only when the picture is handed over as RGB."""
    red, blue = (blob(512, 512, 200, 300, 16, colour) for colour in ((255, 0, 0), (0, 0, 255)))
    assert (DWPose(symmetric).keypoints(red)[1] > 0).all() and not (DWPose(symmetric).keypoints(blue)[1] > 0).any()
    assert (DWPose(symmetric, rgb=False).keypoints(blue)[1] > 0).all()


def test_without_a_score_a_keypoint_is_at_bin_minus_one(symmetric):
    points, scores = DWPose(symmetric).keypoints(np.zeros((384, 288, 3), np.uint8))
    assert (scores <= 0).all()
    assert points[0] == pytest.approx((-0.5 * 1.25 - 36, -0.5 * 1.25 - 48))


def test_a_mirror_swaps_left_and_right():
    assert np.array_equal(MIRRORED[MIRRORED], np.arange(N_KEYPOINTS))
    pairs = {
        1: 2,
        9: 10,
        17: 20,
        23: 39,
        31: 31,
        40: 49,
        44: 45,
        50: 50,
        54: 58,
        59: 68,
        62: 65,
        64: 69,
        71: 77,
        74: 74,
        78: 82,
        83: 87,
        88: 90,
        91: 112,
    }
    assert {k: int(MIRRORED[k]) for k in pairs} == pairs


def test_a_symmetric_person_looks_the_same_in_a_mirror(symmetric):
    picture = blob(640, 480, 250, 200, 20, (255, 0, 0))
    points, _ = DWPose(symmetric).keypoints(picture)
    reflected, _ = DWPose(symmetric).keypoints(picture[:, ::-1].copy())
    expected = reflected[MIRRORED].copy()
    expected[:, 0] = 640 - expected[:, 0]
    assert np.abs(points - expected).max() <= 2.01 * (person_scale(640, 480) / (576, 768)).max()


def test_the_average_is_over_both_ways_up_to_the_mirror(lopsided, monkeypatch):
    """Against an average written out here, on a network that is not symmetric at all."""
    from musetalk.faces import dwpose

    picture = np.maximum(blob(640, 480, 300, 200, 20, (255, 90, 0)), blob(640, 480, 330, 260, 25, (0, 120, 255)))
    pose = DWPose(lopsided)
    seen = []

    def noted(pixels):
        seen.append(pixels)
        return DWPose._vectors(pose, pixels)

    monkeypatch.setattr(pose, "_vectors", noted)
    points, scores = pose.keypoints(picture)
    (pixels,) = seen
    x, y = pose._run(pixels)
    other_x, other_y = pose._run(np.ascontiguousarray(pixels[:, :, :, ::-1]))
    best = np.empty((N_KEYPOINTS, 2))
    for k in range(N_KEYPOINTS):
        m = dwpose.MIRRORED[k]
        best[k] = ((x[0, k] + other_x[0, m, ::-1]) / 2).argmax(), ((y[0, k] + other_y[0, m]) / 2).argmax()
    scale = person_scale(640, 480)
    best[scores <= 0] = -1
    assert (scores > 0).mean() > 0.6
    assert np.allclose(points, best / 2 / (288, 384) * scale + (320, 240) - scale / 2)
    assert np.abs(points - DWPose(lopsided, flip=False).keypoints(picture)[0]).max() > 5


@pytest.mark.parametrize("size", [(1920, 1080), (512, 512), (300, 700)])
def test_without_mirror_and_rgb_it_is_rtmlib(lopsided, size):
    width, height = size
    with contextlib.redirect_stdout(io.StringIO()):
        reference = rtmpose.RTMPose(str(lopsided), (288, 384), backend="onnxruntime")
    ours = DWPose(lopsided, rgb=False, flip=False)
    import cv2

    for picture in (cv2.resize(woman(), size), blob(width, height, 0.4 * width, 0.6 * height, 20, (250, 120, 200))):
        points, _ = ours.keypoints(picture)
        theirs, _ = reference(picture[:, :, ::-1].copy())
        np.testing.assert_allclose(points, theirs[0], rtol=0, atol=1e-6)


def test_the_face_is_keypoints_23_to_90(symmetric):
    picture = blob(512, 512, 250, 250, 20, (255, 0, 0))
    assert np.array_equal(DWPose(symmetric).face_points(picture)[0], DWPose(symmetric).keypoints(picture)[0][23:91])
    assert FACE.stop - FACE.start == 68


def test_frames_side_by_side_come_in_order(symmetric):
    pictures = [blob(512, 512, 100 + 30 * i, 250, 20, (255, 0, 0)) for i in range(11)]
    found = list(DWPose(symmetric, threads=3).faces(iter(pictures)))
    assert len(found) == 11
    for picture, (points, scores) in zip(pictures, found, strict=True):
        alone, sure = DWPose(symmetric).face_points(picture)
        assert np.array_equal(points, alone) and np.array_equal(scores, sure)


def test_another_network_is_refused(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 256, 192])
    exit_ = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 256, 192])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [entry], [exit_])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(tmp_path / "other.onnx"))
    with pytest.raises(EngineUnavailableError, match="dw-ll_ucoco_384.onnx"):
        DWPose(tmp_path / "other.onnx")
    (tmp_path / "torn.onnx").write_bytes(b"\x08\x08 torn")
    with pytest.raises(EngineUnavailableError, match="cannot be read"):
        DWPose(tmp_path / "torn.onnx")

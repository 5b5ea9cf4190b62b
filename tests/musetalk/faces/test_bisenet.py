"""The parser against functional torch written out here, and its regions by the worked numbers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'museserve[neural]'")
import torch.nn.functional as F  # noqa: E402

from musetalk.faces.bisenet import LIPS, MEAN, NECK, NOSE, SIDE, SKIN, STD, BiSeNet, FaceParser, cone_kernel, folded, region  # noqa: E402
from tests.musetalk.faces.parser_weights import parser_weights  # noqa: E402
from tests.musetalk.pictures import woman  # noqa: E402


@pytest.fixture(scope="module")
def weights():
    return parser_weights()


def loaded(weights):
    model = BiSeNet()
    model.load_state_dict(weights)
    return model


@torch.no_grad()
def reference(x, w):
    """BiSeNet's main head, from the state dict alone."""

    def norm(x, name):
        return F.batch_norm(x, w[f"{name}.running_mean"], w[f"{name}.running_var"], w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-5)

    def cbr(x, name, pad):
        return F.relu(norm(F.conv2d(x, w[f"{name}.conv.weight"], padding=pad), f"{name}.bn"))

    def block(x, name, stride):
        y = F.relu(norm(F.conv2d(x, w[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1"))
        y = norm(F.conv2d(y, w[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
        if f"{name}.downsample.0.weight" in w:
            x = norm(F.conv2d(x, w[f"{name}.downsample.0.weight"], stride=stride), f"{name}.downsample.1")
        return F.relu(x + y)

    def refine(x, name):
        x = cbr(x, f"{name}.conv", 1)
        pooled = F.avg_pool2d(x, x.shape[2:])
        return x * torch.sigmoid(norm(F.conv2d(pooled, w[f"{name}.conv_atten.weight"]), f"{name}.bn_atten"))

    size = x.shape[2:]
    x = F.max_pool2d(F.relu(norm(F.conv2d(x, w["cp.resnet.conv1.weight"], stride=2, padding=3), "cp.resnet.bn1")), 3, 2, 1)
    features = []
    for layer, stride in ((1, 1), (2, 2), (3, 2), (4, 2)):
        x = block(block(x, f"cp.resnet.layer{layer}.0", stride), f"cp.resnet.layer{layer}.1", 1)
        features.append(x)
    _, f8, f16, f32 = features
    average = cbr(F.avg_pool2d(f32, f32.shape[2:]), "cp.conv_avg", 0)
    low = refine(f32, "cp.arm32") + F.interpolate(average, f32.shape[2:], mode="nearest")
    low = cbr(F.interpolate(low, f16.shape[2:], mode="nearest"), "cp.conv_head32", 1)
    mid = refine(f16, "cp.arm16") + low
    mid = cbr(F.interpolate(mid, f8.shape[2:], mode="nearest"), "cp.conv_head16", 1)
    fused = cbr(torch.cat([f8, mid], 1), "ffm.convblk", 0)
    attention = F.relu(F.conv2d(F.avg_pool2d(fused, fused.shape[2:]), w["ffm.conv1.weight"]))
    fused = fused * torch.sigmoid(F.conv2d(attention, w["ffm.conv2.weight"])) + fused
    return F.interpolate(F.conv2d(cbr(fused, "conv_out.conv", 1), w["conv_out.conv_out.weight"]), size, mode="bilinear", align_corners=True)


def test_every_published_tensor_has_its_place(weights):
    model = BiSeNet()
    assert len(weights) == 191 and set(model.state_dict()) == set(weights)
    assert {name: tuple(v.shape) for name, v in model.state_dict().items()} == {name: tuple(v.shape) for name, v in weights.items()}
    assert sum(p.numel() for p in model.parameters()) == 13_300_416


def test_folding_changes_nothing_and_the_network_is_the_published_one(weights):
    x = torch.randn(2, 3, 128, 160, generator=torch.Generator().manual_seed(1))
    expected = reference(x, weights)
    scale = expected.abs().max()
    with torch.no_grad():
        plain, fast = loaded(weights).eval()(x), folded(loaded(weights))(x)
    assert (plain - expected).abs().max() / scale < 1e-5
    assert (fast - expected).abs().max() / scale < 1e-4
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in folded(loaded(weights)).modules())


def test_crops_of_any_size_become_class_maps(weights):
    crops = [woman()[300:700, 300:730], woman()[100:300, 50:180]]
    found = FaceParser(loaded(weights)).classes(crops)
    from PIL import Image

    for crop, classes in zip(crops, found, strict=True):
        small = np.asarray(Image.fromarray(crop).resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32) / 255
        x = torch.from_numpy(((small - np.array(MEAN, np.float32)) / np.array(STD, np.float32)).transpose(2, 0, 1)[None])
        assert classes.shape == (SIDE, SIDE) and classes.dtype == np.uint8
        assert (reference(x, weights)[0].argmax(0).numpy() == classes).mean() > 0.9999


def a_face():
    """Class numbers of a drawn face: hair, skin, brows, nose, lips, neck, cloth."""
    classes = np.zeros((SIDE, SIDE), np.uint8)

    def ellipse(value, centre, axes):
        cv2.ellipse(classes, centre, axes, 0, 0, 360, value, -1)

    ellipse(17, (256, 200), (170, 180))
    cv2.rectangle(classes, (200, 380), (312, 511), NECK, -1)
    cv2.rectangle(classes, (90, 470), (420, 511), 16, -1)
    ellipse(SKIN, (256, 250), (130, 170))
    ellipse(NOSE, (256, 260), (30, 50))
    ellipse(12, (256, 335), (50, 14))
    ellipse(13, (256, 358), (45, 14))
    ellipse(11, (256, 346), (40, 6))
    return classes


def test_the_cone_has_373_ones_and_grows_16_up_6_down_10_aside():
    kernel = cone_kernel()
    assert kernel.shape == (33, 33) and kernel.sum() == 373
    assert [int(kernel[row].sum()) for row in (9, 10, 11, 19, 20, 21, 32)] == [0, 1, 3, 19, 21, 21, 21]
    point = np.zeros((101, 101), np.uint8)
    point[50, 50] = 255
    rows, columns = np.nonzero(cv2.dilate(point, kernel))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (34, 56, 40, 60)
    assert (rows == 56).sum() == 1


def grow(mask, kernel):
    """Dilation from its definition, the anchor in the kernel's middle."""
    ky, kx = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = np.pad(mask, ((ky, ky), (kx, kx)))
    out = np.zeros_like(mask)
    for y, x in zip(*np.nonzero(kernel), strict=True):
        out |= padded[y : y + mask.shape[0], x : x + mask.shape[1]]
    return out


def test_the_regions_are_the_published_ones():
    classes = a_face()
    skin, lips, nose = classes == SKIN, np.isin(classes, LIPS), classes == NOSE
    assert np.array_equal(region(classes, "raw") == 255, skin | lips)
    assert np.array_equal(region(classes, "neck") == 255, skin | lips | (classes == NECK))

    cone = np.zeros((33, 33), bool)
    for row in range(10, 33):
        reach = min(row - 10, 10)
        cone[row, 16 - reach : 16 + reach + 1] = True
    cross = np.zeros((3, 35), bool)
    cross[1, :] = cross[:, 17] = True
    grown = grow(skin, cone)
    narrow = ~grow(grow(~grown, cross), cross)
    for left, right in ((90, 90), (40, 150)):
        x = np.arange(SIDE)
        cheek = (x <= 256 - left) | (x >= 256 + right)
        expected = (np.where(cheek, narrow, grown) & ~nose) | lips
        got = region(classes, "jaw", (left, right))
        assert set(np.unique(got)) == {0, 255}
        assert np.array_equal(got == 255, expected)


@pytest.mark.parametrize("mode", ["raw", "jaw", "neck"])
def test_a_picture_without_a_face_has_no_region(mode):
    assert not region(np.zeros((SIDE, SIDE), np.uint8), mode).any()

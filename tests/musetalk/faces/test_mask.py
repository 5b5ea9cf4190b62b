"""Soft masks against the recipe written out step by step with Pillow, and the worked numbers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'museserve[neural]'")

from museserve.messages import Box  # noqa: E402
from musetalk.faces.bisenet import BiSeNet, FaceParser, region  # noqa: E402
from musetalk.faces.mask import BlendRule, blur_kernel, context_crop, context_square, face_mask, in_common_box, square_mask  # noqa: E402
from tests.musetalk.faces.parser_weights import parser_weights  # noqa: E402
from tests.musetalk.faces.test_bisenet import a_face  # noqa: E402
from tests.musetalk.pictures import woman  # noqa: E402

EXAMPLE = (200, 180, 360, 430)


def published_mask(classes, box, rule):
    """The mask of the expanded square, as the recipe has it."""
    x, y, x1, y1 = box
    x_s, y_s, x_e, y_e = context_square(box, rule.expand)
    side = x_e - x_s
    image = Image.fromarray(region(classes, rule.mode, rule.cheeks)).resize((side, side))
    small = image.crop((x - x_s, y - y_s, x1 - x_s, y1 - y_s))
    only_face = Image.new("L", (side, side), 0)
    only_face.paste(small, (x - x_s, y - y_s, x1 - x_s, y1 - y_s))
    top = int(side * rule.upper)
    lower = Image.new("L", (side, side), 0)
    lower.paste(only_face.crop((0, top, side, side)), (0, top))
    kernel = int(rule.blur * side // 2 * 2) + 1
    return cv2.GaussianBlur(np.array(lower), (kernel, kernel), 0)


def test_the_worked_example():
    square = context_square(EXAMPLE)
    assert square == (93, 118, 467, 492) and square[2] - square[0] == 374
    assert blur_kernel(374, 0.05) == 19 and blur_kernel(374, 0.1) == 37
    assert int(374 * BlendRule().upper) == 187 and square[1] + 187 == 305
    assert context_square(EXAMPLE, 1.2) == (130, 155, 430, 455)


def test_outside_the_picture_is_black():
    crop = context_crop(woman(), (900, 20, 1020, 180))
    left, top, right, _ = context_square((900, 20, 1020, 180))
    assert crop.shape == (right - left, right - left, 3)
    assert not crop[:, 1024 - left :].any() and not crop[: -top if top < 0 else 0].any()
    assert np.array_equal(crop[max(0, -top) :, : 1024 - left], woman()[max(0, top) : top + crop.shape[0], left:1024])


@pytest.mark.parametrize("mode", ["raw", "jaw", "neck"])
@pytest.mark.parametrize("box", [EXAMPLE, (201, 181, 362, 431), (3, 5, 120, 190), (400, 300, 511, 511)])
@pytest.mark.parametrize("blur", [0.05, 0.1])
def test_masks_are_equal_to_the_recipe(mode, box, blur):
    rule = BlendRule(mode=mode, blur=blur, cheeks=(90, 70))
    expected = published_mask(a_face(), box, rule)
    assert np.array_equal(square_mask(a_face(), box, rule), expected)
    x_s, y_s, _, _ = context_square(box)
    inside = face_mask(a_face(), box, rule)
    assert np.array_equal(inside, expected[box[1] - y_s : box[3] - y_s, box[0] - x_s : box[2] - x_s])
    assert inside.max() == 255
    assert not inside[: (box[3] - box[1]) // 2 - blur_kernel(2 * (context_square(box)[2] - box[0]), blur)].any()


def test_the_upper_boundary_moves_the_mask_down():
    low, high = (face_mask(a_face(), EXAMPLE, BlendRule(upper=upper)) for upper in (0.6, 0.5))
    first = [int(np.flatnonzero(mask.max(1) > 127)[0]) for mask in (high, low)]
    assert first[1] - first[0] == pytest.approx(37, abs=1)


def test_masks_of_frames_are_parsed_in_their_own_boxes():
    model = BiSeNet()
    model.load_state_dict(parser_weights())
    parser, rule = FaceParser(model), BlendRule(mode="neck")
    boxes = [(400, 330, 620, 640), (410, 330, 630, 641)]
    parsed = parser.classes([context_crop(woman(), box) for box in boxes])
    masks = [face_mask(classes, box, rule) for classes, box in zip(parsed, boxes, strict=True)]
    for mask, box in zip(masks, boxes, strict=True):
        (classes,) = parser.classes([context_crop(woman(), box)])
        assert np.array_equal(mask, face_mask(classes, box, rule))


def test_one_even_box_holds_all_that_shows():
    random = np.random.default_rng(0)
    boxes = [(11, 21, 41, 62), (13, 20, 44, 60), (9, 25, 30, 55)]
    masks = []
    for x, y, x1, y1 in boxes:
        mask = np.zeros((y1 - y, x1 - x), np.uint8)
        mask[15:-4, 3:-5] = random.integers(1, 256, mask[15:-4, 3:-5].shape)
        masks.append(mask)
    masks.append(np.zeros((30, 30), np.uint8))
    boxes.append((0, 0, 30, 30))
    together, box = in_common_box(masks, boxes)
    assert (box.x % 2, box.y % 2, box.w % 2, box.h % 2) == (0, 0, 0, 0)
    assert together.shape == (4, box.h, box.w)
    for part, mask, (x, y, x1, y1) in zip(together, masks, boxes, strict=True):
        frame = np.zeros((100, 100), np.uint8)
        frame[box.y : box.y + box.h, box.x : box.x + box.w] = part
        expected = np.zeros((100, 100), np.uint8)
        expected[y:y1, x:x1] = mask
        assert np.array_equal(frame, expected)
    assert box.x >= 12 - 1 and box.y >= 35 - 1 and together[:, [0, -1]].any() and together[:, :, [0, -1]].any()


def test_masks_that_show_nothing_have_a_box_all_the_same():
    together, box = in_common_box([np.zeros((9, 9), np.uint8)], [(5, 7, 14, 16)])
    assert box == Box(4, 6, 2, 2) and together.shape == (1, 2, 2) and not together.any()

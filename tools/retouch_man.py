"""Retouch the shipped man's portrait: what its renderer left at hair, collar, eyes and nose.

python -m tools.retouch_man PORTRAIT.png OUT.png       of 1024 x 1024, before or after `tools.ship_portrait`

Places are pixels of that portrait. Its landmarks stay: nothing that they stand on moves.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from museserve.messages import ByteArray, FloatArray
from musetalk.avatars.format import to_png

Points = Sequence[tuple[int, int]]

# Holes through which the wall and the skin show between each sideburn and the face.
SIDEBURNS: tuple[Points, ...] = (
    ((319, 355), (327, 355), (327, 400), (326, 434), (322, 446), (317, 434), (314, 400)),
    ((696, 360), (703, 360), (710, 400), (708, 428), (705, 442), (700, 446), (698, 400)),
)
STRAY_HAIRS: Points = ((704, 448), (716, 438), (718, 466), (706, 468))
HAIR_TOP, HAIR_BOTTOM, HAIR_DARK = 70, 462, 92  # rows with hair against the wall; grey level that hair stays below
LOOSE_ROWS = (190, 240)  # loose hairs above are as they should be; from the second row on there are none
OUTLINE_PX, OUTLINE_FROM, OUTLINE_OVER = 2.6, 0.25, 0.4  # its outline is smoothed so far, and drawn where so much of the neighbourhood is hair
WALL_PX = 9.0  # what lies beside it
# The shirt between lapel and collar, seen from the lapel: its rows take the colour that the shirt has beside it.
SHIRT: tuple[tuple[Points, int], ...] = (
    (((345, 702), (356, 706), (357, 742), (346, 772), (340, 770), (328, 730)), 1),
    (((680, 698), (696, 729), (689, 750), (682, 772), (670, 748), (666, 706)), -1),
)
SHIRT_SHADE, SHIRT_SHADE_PX, SHIRT_FADE_PX = 0.22, 7.0, 24.0  # below the lapel's edge; above the polygon's end it fades
PUPILS = ((434, 395), (591, 395))
LIGHT, LIGHT_PX, LIGHT_LEVEL = (5, -3), 1.9, 190  # the lamp in both eyes, from the pupil's middle
OTHER_LIGHT, OTHER_LIGHT_PX = (-6, 7), 6  # goes
LOWER_LIDS: tuple[Points, ...] = (((410, 406), (422, 410), (440, 411), (452, 410)), ((567, 409), (583, 411), (600, 411), (610, 408)))
RIM_PX, RIM_LIGHT = 1.5, 0.93  # of the skin below, the most that is left between the lashes
TEMPLE, TEMPLE_PX, TEMPLE_WARMER, TEMPLE_DARKER = (
    ((330, 250), (352, 250), (378, 330), (372, 430), (378, 560), (350, 560), (330, 470)),
    14.0,
    0.75,
    0.07,
)
NOSE, NOSE_PX, NOSE_PALER = ((497, 400), (527, 400), (552, 500), (540, 524), (482, 524), (470, 500)), 12.0, 0.55
SKIN = ((400, 440), (440, 480))  # a cheek in plain light: corners


def area(points: Points, shape: tuple[int, ...], soft_px: float) -> FloatArray:
    """1 inside the polygon, 0 outside, float32 (h, w)."""
    mask = np.zeros(shape[:2], np.float32)
    cv2.fillPoly(mask, [np.array(points, np.int32)], 1.0)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), soft_px), np.float32)


def retouch(portrait: ByteArray) -> ByteArray:
    """RGB uint8 (1024, 1024, 3), all of the above done."""
    picture = portrait.astype(np.float32)
    for points in SIDEBURNS:
        _fill_hair(picture, points)
    _smooth_outline(picture)
    for points, side in SHIRT:
        _fill_beside(picture, points, side, SHIRT_SHADE, SHIRT_FADE_PX)
    _fill_beside(picture, STRAY_HAIRS, 1)
    _eyes(picture)
    lab = cv2.cvtColor(picture / 255, cv2.COLOR_RGB2LAB)
    (x0, y0), (x1, y1) = SKIN
    skin = np.median(lab[y0:y1, x0:x1].reshape(-1, 3), 0)
    for points, soft, share, darker in ((TEMPLE, TEMPLE_PX, TEMPLE_WARMER, TEMPLE_DARKER), (NOSE, NOSE_PX, NOSE_PALER, 0.0)):
        mask = area(points, lab.shape, soft)
        mask = mask * cv2.GaussianBlur((lab[..., 0] > 40).astype(np.float32), (0, 0), 2.0)
        lab[..., 1:] += (skin[1:] - lab[..., 1:]) * (share * mask)[..., None]
        lab[..., 0] = lab[..., 0] * (1 - darker * mask)
    return np.clip(np.rint(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255), 0, 255).astype(np.uint8)


def _fill_hair(picture: FloatArray, points: Points) -> None:
    """Hair in place of what is light within the polygon."""
    mask = area(points, picture.shape, 1.2)
    grey = picture.mean(2)
    hair = picture[(mask > 0.5) & (grey < 60)].mean(0)
    strands = np.random.default_rng(0).normal(0, 5, (1, picture.shape[1], 1)).astype(np.float32)
    picture += (np.minimum(picture, hair + strands) - picture) * mask[..., None]


def _smooth_outline(picture: FloatArray) -> None:
    """The hair's outline against the wall without crumbs and steps."""
    grey = picture.mean(2)
    rows = slice(HAIR_TOP, HAIR_BOTTOM)
    hair = np.zeros(grey.shape, np.float32)
    hair[rows] = grey[rows] < HAIR_DARK
    _, labels, stats, _ = cv2.connectedComponentsWithStats(cv2.dilate(hair.astype(np.uint8), np.ones((3, 3), np.uint8)))
    head = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    hair *= labels == head
    wall = _from_outside(picture, hair)
    inside = cv2.GaussianBlur(picture * hair[..., None], (0, 0), 2.5) / np.maximum(cv2.GaussianBlur(hair, (0, 0), 2.5), 1e-3)[..., None]
    share = np.clip((cv2.GaussianBlur(hair, (0, 0), OUTLINE_PX) - OUTLINE_FROM) / OUTLINE_OVER, 0, 1)
    share = share * share * (3 - 2 * share)
    first, last = LOOSE_ROWS
    low = np.clip((np.arange(len(hair)) - first) / (last - first), 0, 1)[:, None]
    edge = wall[..., 3] * np.clip(12 * cv2.GaussianBlur(hair, (0, 0), 6.0), 0, 1) * low
    drawn = wall[..., :3] * (1 - share[..., None]) + (0.5 * inside + 0.5 * np.minimum(picture, inside + 25)) * share[..., None]
    picture += (drawn - picture) * edge[..., None]


def _from_outside(picture: FloatArray, hair: FloatArray) -> FloatArray:
    """(h, w, 4): the wall's colour beside the hair, and where it is the wall, and not the face, that the hair lies against."""
    # The wall is what the picture's border is joined with, across no hair.
    closed = cv2.morphologyEx(hair.astype(np.uint8), cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9)))
    outside, middle = np.zeros(hair.shape, np.float32), hair.shape[1] // 2
    for y in range(HAIR_TOP, HAIR_BOTTOM):
        across = np.flatnonzero(closed[y])
        if len(across) and across[0] < middle:
            outside[y, : across[0]] = 1
        if len(across) and across[-1] > middle:
            outside[y, across[-1] + 1 :] = 1
    for x in range(hair.shape[1]):
        down = np.flatnonzero(closed[HAIR_TOP:HAIR_BOTTOM, x])
        if len(down):
            outside[HAIR_TOP : HAIR_TOP + down[0], x] = 1
    clean = cv2.erode(outside, np.ones((5, 5), np.uint8))
    weight = cv2.GaussianBlur(clean, (0, 0), WALL_PX)
    wall = cv2.GaussianBlur(picture * clean[..., None], (0, 0), WALL_PX) / np.maximum(weight, 1e-3)[..., None]
    near = np.clip(3 * cv2.GaussianBlur(outside, (0, 0), 4.0), 0, 1) * (weight > 0.02)
    near[HAIR_BOTTOM:] = 0
    return np.dstack([wall, near]).astype(np.float32)


def _fill_beside(picture: FloatArray, points: Points, side: int, shade: float = 0.0, fade_px: float = 1.0) -> None:
    """Rows of the polygon in the colour that is beside it (side: 1 on its right), a shade on the other side; over the last rows it fades."""
    mask = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.array(points, np.int32)], 1)
    filled = picture.copy()
    for y in np.flatnonzero(mask.any(1)):
        columns = np.flatnonzero(mask[y])
        beside = columns[-1] + 4 if side > 0 else columns[0] - 4
        filled[y, columns] = picture[y - 2 : y + 3, beside - 2 : beside + 3].mean((0, 1))
        off = columns - columns[0] if side > 0 else columns[-1] - columns
        filled[y, columns] *= (1 - shade * np.exp(-((off / SHIRT_SHADE_PX) ** 2)))[:, None]
    end = np.flatnonzero(mask.any(1))[-1]
    fade = np.clip((end - np.arange(len(mask))) / fade_px, 0, 1)[:, None]
    soft = (cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.8) * fade)[..., None]
    picture += (cv2.GaussianBlur(filled, (0, 0), 1.5) - picture) * soft


def _eyes(picture: FloatArray) -> None:
    """One light in either eye, at the same side of the pupil, and none between the lower lashes."""
    grid = np.stack(np.meshgrid(np.arange(picture.shape[1]), np.arange(picture.shape[0])), -1)
    for pupil in PUPILS:
        spot = np.hypot(*(grid - np.add(pupil, OTHER_LIGHT)).transpose(2, 0, 1)) < OTHER_LIGHT_PX
        bright = cv2.dilate((spot & (picture.mean(2) > 95)).astype(np.uint8), np.ones((3, 3), np.uint8))
        if bright.any() and pupil == PUPILS[1]:
            filled = cv2.inpaint(np.rint(picture).astype(np.uint8), bright, 3, cv2.INPAINT_TELEA).astype(np.float32)
            picture += (filled - picture) * cv2.GaussianBlur(bright.astype(np.float32), (0, 0), 0.7)[..., None]
        light = np.exp(-((np.hypot(*(grid - np.add(pupil, LIGHT)).transpose(2, 0, 1)) / LIGHT_PX) ** 4))[..., None]
        picture += (np.maximum(picture, LIGHT_LEVEL) - picture) * light
    for points in LOWER_LIDS:
        line = np.zeros(picture.shape[:2], np.float32)
        cv2.polylines(line, [np.array(points, np.int32)], False, 1.0, round(2 * RIM_PX))
        band = cv2.GaussianBlur(line, (0, 0), 1.0)[..., None]
        below = np.array(points).mean(0) + (0, 14)
        skin = picture[int(below[1]) - 3 : int(below[1]) + 3, int(below[0]) - 12 : int(below[0]) + 12].mean((0, 1))
        picture += (np.minimum(picture, RIM_LIGHT * skin) - picture) * band


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.retouch_man", description="Retouches the shipped man's portrait.")
    parser.add_argument("portrait", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args(arguments)
    options.out.write_bytes(to_png(retouch(np.asarray(Image.open(options.portrait).convert("RGB")))))
    return 0


if __name__ == "__main__":
    sys.exit(main())

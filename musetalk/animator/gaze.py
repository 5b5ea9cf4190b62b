"""Draws an eye over the warped face: its lids at their level, and the eyeball shifted behind them to look somewhere."""

from __future__ import annotations

import cv2
import numpy as np

from museserve.messages import Box, FloatArray
from musetalk.animator.colors import Planes
from musetalk.animator.eyelids import LEVELS, Eye
from musetalk.animator.idle import LID_FOLLOWS
from musetalk.animator.rig import TEXTURE_SCALE, Rig
from musetalk.animator.sampling import moved_by, over, sample

REACH_MM = 6.5  # head and brow move an eye at most so far

Maps = tuple[FloatArray, FloatArray]


def draw_eye(rig: Rig, eye: Eye, lid: float, gaze: tuple[float, float], box: Box, planes: Planes, maps: Maps) -> None:
    """Draw one eye in place.

    Args:
        lid: 0 open .. 1 shut. gaze: mm right and down.
        planes: the picture's part `box`, already warped with `maps` (of luma, of chroma).
    """
    x, y, w, h = (int(value) for value in eye.rect)
    level = min(max(round((lid + LID_FOLLOWS * gaze[1] * (1 - lid)) * (LEVELS - 1)), 0), len(eye.lid) - 1)
    (x_x, x_y), (y_x, y_y) = rig.anatomy.axes * (rig.anatomy.scale * TEXTURE_SCALE)
    shift = np.float32(gaze[0] * x_x + gaze[1] * y_x), np.float32(gaze[0] * x_y + gaze[1] * y_y)
    reach = int(REACH_MM * rig.anatomy.scale) // 2 * 2 + 2
    out_x0, out_y0 = max(x // TEXTURE_SCALE - reach - box.x, 0), max(y // TEXTURE_SCALE - reach - box.y, 0)
    out_x1, out_y1 = min((x + w) // TEXTURE_SCALE + reach - box.x, box.w), min((y + h) // TEXTURE_SCALE + reach - box.y, box.h)
    if out_x1 <= out_x0 or out_y1 <= out_y0:
        return
    balls, lids = (eye.ball, eye.ball_u, eye.ball_v), (eye.lid, eye.lid_u, eye.lid_v)
    shares = (eye.share, eye.share_uv, eye.share_uv)
    columns, rows = np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32)[:, None]
    follow_x, follow_y = columns - eye.mobility * shift[0], rows - eye.mobility * shift[1]
    follows = (cv2.merge([follow_x, follow_y]), cv2.merge([follow_x[::2, ::2] * 0.5, follow_y[::2, ::2] * 0.5]))
    for number, texture in enumerate((rig.luma, rig.chroma_u, rig.chroma_v)):
        half = 1 if number == 0 else 2
        side = texture.shape[0]
        left, top, wide = x // half, y // half, 2 * reach * TEXTURE_SCALE // half
        px0, py0, px1, py1 = max(left - wide, 0), max(top - wide, 0), min(left + w // half + wide, side), min(top + h // half + wide, side)
        patch = texture[py0:py1, px0:px1].copy()
        ball = sample(balls[number], follows[half - 1])
        patch[top - py0 : top - py0 + h // half, left - px0 : left - px0 + w // half] = over(lids[number][level], ball, shares[number][level])
        part = slice(out_y0 // half, out_y1 // half), slice(out_x0 // half, out_x1 // half)
        if number < 2:
            at = moved_by(maps[half - 1][part], -px0, -py0)
        sample(patch, at, planes[number][part])

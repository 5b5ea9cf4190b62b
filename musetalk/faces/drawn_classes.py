"""Classes of a face's pixels drawn from its landmarks, for machines without the face parser's weights: fewer of them, and straight-edged."""

from __future__ import annotations

import cv2
import numpy as np

from museserve.messages import ByteArray
from musetalk.faces.bisenet import LOWER_LIP, NOSE, SIDE, SKIN
from musetalk.faces.box import Points
from musetalk.faces.mask import FaceBox, context_square
from musetalk.faces.quality import OVAL

# MediaPipe's outlines of the lips and of the nose from its bridge to the nostrils.
MESH_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
MESH_NOSE = (168, 122, 174, 198, 49, 64, 98, 97, 2, 326, 327, 294, 279, 420, 399, 351)
# The same in iBUG's 68 points: the jaw, closed over the brows; the outer lips; bridge and nostrils.
IBUG_OVAL = (*range(17), *range(26, 16, -1))
IBUG_LIPS = tuple(range(48, 60))
IBUG_NOSE = (27, 31, 32, 33, 34, 35)


def drawn_classes(points: Points, box: FaceBox, expand: float) -> ByteArray:
    """What `bisenet.FaceParser.classes` gives for `mask.context_crop`: uint8 (512, 512).

    points: (478, >= 2) or (68, >= 2) in pixels of the frame.
    """
    left, top, right, _ = context_square(box, expand)
    scale = SIDE / (right - left)
    oval, lips, nose = (OVAL, MESH_LIPS, MESH_NOSE) if len(points) == 478 else (IBUG_OVAL, IBUG_LIPS, IBUG_NOSE)
    classes = np.zeros((SIDE, SIDE), np.uint8)
    for outline, value in ((oval, SKIN), (nose, NOSE), (lips, LOWER_LIP)):
        corners = (points[list(outline), :2] - (left, top)) * scale
        cv2.fillPoly(classes, [np.round(corners).astype(np.int32)], value)
    return classes


def five_points(points: Points) -> Points:
    """Both eyes, the nose's tip, both corners of the mouth, left to right in the picture: (5, 2)."""
    if len(points) == 478:
        return points[[468, 473, 4, 61, 291], :2]
    eyes = points[36:42, :2].mean(0), points[42:48, :2].mean(0)
    return np.stack([*eyes, points[30, :2], points[48, :2], points[54, :2]])

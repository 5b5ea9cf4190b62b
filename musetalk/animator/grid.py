"""The coarse grid that fields live on, and the boxes of the picture that speech can change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from museserve.errors import ImageError
from museserve.messages import Box, FloatArray
from musetalk.animator.anatomy import Anatomy, Array
from musetalk.animator.fields import SPEECH_FIELDS, FaceFields
from musetalk.animator.lipline import LipLine

NODES = 120  # the coarse grid has about this many cells a side
RING = 2  # nodes beyond the picture, so that a part of the grid sees its neighbours
LOWER_REACH = 1.15
LOWER_TOP_MM, LOWER_BOTTOM_MM = 7.0, 48.0  # of the lower-face box: above the mouth, below the chin
NOTICEABLE_PX = 0.004
STRONGEST, STRONGEST_ELSE = {"nod": 4.0, "rise": 2.0, "turn": 3.0}, 1.5  # weights that the box is made for


@dataclass(frozen=True)
class Region:
    """A rectangle of grid nodes: `x0`, `y0` the first node's index in the full grid, `nx` x `ny` nodes."""

    x0: int
    y0: int
    nx: int
    ny: int


def grid_cell(size: int) -> int:
    """Pixels of a grid cell: even, a divisor of `size`, about size / NODES."""
    for cell in range(max(2, round(size / NODES)), size):
        if cell % 2 == 0 and size % cell == 0:
            return cell
    raise ImageError(f"the picture's size must be even, got {size}")


def part_of(fields: FloatArray, whole: Region, part: Region) -> FloatArray:
    """The fields (k, n·2) of a part of the grid."""
    grid = fields.reshape(len(fields), whole.ny, whole.nx, 2)
    return grid[:, part.y0 : part.y0 + part.ny, part.x0 : part.x0 + part.nx].reshape(len(fields), -1)


def node_pixels(region: Region, cell: int) -> Array:
    """(ny, nx, 2) pixel positions of nodes: a node is the middle of its cell, as OpenCV's resize wants it."""
    x = (np.arange(region.x0, region.x0 + region.nx) - RING) * cell + (cell - 1) / 2
    y = (np.arange(region.y0, region.y0 + region.ny) - RING) * cell + (cell - 1) / 2
    return np.stack(np.meshgrid(x, y), -1)


def region_of(box: Box, cell: int, count: int) -> Region:
    """A box's nodes and `RING` around them, in a grid of `count` x `count` nodes."""
    x0, y0 = box.x // cell, box.y // cell  # RING nodes before the box's first
    return Region(x0, y0, min(box.w // cell + 2 * RING, count - x0), min(box.h // cell + 2 * RING, count - y0))


def speech_box(anatomy: Anatomy, line: LipLine, fields: FaceFields, full: Region, cell: int, size: int) -> Box:
    """What speech moves by more than `NOTICEABLE_PX`, in whole cells, pixels of a picture of `size` x `size`."""
    nodes = node_pixels(full, cell)
    points = anatomy.to_mm(nodes.reshape(-1, 2))
    strength = np.array([STRONGEST.get(name, STRONGEST_ELSE) for name in SPEECH_FIELDS])[:, None, None]
    moved = np.zeros(len(points), bool)
    for layer in ("upper", "lower"):
        shift = np.abs(anatomy.vectors(fields.speech(points, layer)) * strength).max((0, 2))
        if layer == "lower":
            shift = shift * _in_lower_face(anatomy, line, points)
        moved |= shift > NOTICEABLE_PX
    rows, columns = np.nonzero(moved.reshape(full.ny, full.nx))
    # one cell of margin: between two nodes the field is interpolated; below, one more, because the head sways and a collar has strong edges
    x0, y0 = (max(0, (int(index.min()) - RING - 1) * cell) for index in (columns, rows))
    x1, y1 = (min(size, (int(index.max()) - RING + margin) * cell) for index, margin in ((columns, 2), (rows, 3)))
    return Box(x0, y0, x1 - x0, y1 - y0)


def _in_lower_face(anatomy: Anatomy, line: LipLine, points: Array) -> Array:
    x, y = points.T
    inside: Array = (np.abs(x) < LOWER_REACH * anatomy.jaw_half) & (y < anatomy.chin + LOWER_BOTTOM_MM) & (y > line.upper(x) - LOWER_TOP_MM)
    return inside


def lower_face_box(anatomy: Anatomy, line: LipLine, cell: int, box: Box) -> Box:
    """The lower face inside `box`, in whole cells, pixels."""
    reach = LOWER_REACH * anatomy.jaw_half
    top = float(line.upper(np.linspace(-reach, reach, 41)).min()) - LOWER_TOP_MM
    corners = anatomy.corners((-reach, top), (reach, anatomy.chin + LOWER_BOTTOM_MM))
    x0, y0 = (int(np.floor(value / cell)) * cell for value in corners.min(0))
    x1, y1 = (int(np.ceil(value / cell)) * cell for value in corners.max(0))
    x0, y0 = max(x0, box.x), max(y0, box.y)
    return Box(x0, y0, min(x1, box.x + box.w) - x0, min(y1, box.y + box.h) - y0)

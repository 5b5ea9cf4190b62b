"""What drawing leaves in the picture: seams round the parts that speech redraws, a tear beside the lips, lost sharpness."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from museserve.messages import Box, ByteArray, FloatArray
from musetalk.animator.fields import IDLE_FIELDS
from musetalk.animator.idle import IdleMotion
from musetalk.animator.render import fit_row, idle_frame, render_crop
from musetalk.animator.rig import Rig
from musetalk.speech_cues.controls import BROW_UP, NOD, RISE, TURN

FOREHEAD, NOSE, BROW_ENDS = 151, 195, (70, 300)  # landmarks round the part of the face that speech leaves alone
OPEN_LIDS = 0.02  # frames with lids lower than this are not compared with the portrait


def without_sway(rig: Rig) -> Rig:
    """The same face with its head held still, eyes open and straight."""
    weights = np.zeros_like(rig.motion.weights)
    smile = IDLE_FIELDS.index("smile")
    weights[:, smile] = rig.motion.weights[:, smile]
    return replace(rig, motion=IdleMotion(weights, np.zeros_like(rig.motion.lids), np.zeros_like(rig.motion.gaze)))


def most_different(rows: FloatArray, count: int) -> NDArray[np.int64]:
    """Numbers of up to `count` rows that span what the mouth does: for each control its largest ones."""
    order = np.argsort(-np.abs(rows), axis=0)[: max(1, count // rows.shape[1])]
    return np.unique(order.ravel())


def lower_face_seam(still: Rig, rows: FloatArray) -> int:
    """Largest difference in grey levels along the sides and the bottom of the lower-face box that speech (n, controls) makes on a head
    that does not move."""
    quiet = rows.copy()
    quiet[:, [NOD, RISE, TURN, BROW_UP]] = 0.0
    inner = Box(still.lower_box.x - still.box.x, still.lower_box.y - still.box.y, still.lower_box.w, still.lower_box.h)
    return max((_border_difference(still, 0, row, inner, top=False) for row in quiet if row.any()), default=0)


def crop_seam(rig: Rig, frames: NDArray[np.int64], rows: FloatArray) -> int:
    """The same along the edge of what is pasted onto the idle loop, nods and brows included; edges on the picture's border do not count."""
    whole = Box(0, 0, rig.box.w, rig.box.h)
    return max((_border_difference(rig, int(n), row, whole, top=True) for n, row in zip(frames, rows, strict=True) if row.any()), default=0)


def _border_difference(rig: Rig, frame: int, row: FloatArray, part: Box, top: bool) -> int:
    box = rig.box
    talking = render_crop(rig, frame, row)[: box.h]
    resting = idle_frame(rig, frame)[box.y : box.y + box.h, box.x : box.x + box.w]
    difference = cv2.absdiff(talking, np.ascontiguousarray(resting))[part.y : part.y + part.h, part.x : part.x + part.w]
    edges = []
    if box.x + part.x > 0:
        edges.append(difference[:, 0])
    if box.x + part.x + part.w < rig.size:
        edges.append(difference[:, -1])
    if box.y + part.y + part.h < rig.size:
        edges.append(difference[-1])
    if top and box.y + part.y > 0:
        edges.append(difference[0])
    return max(int(edge.max()) for edge in edges)


def tear(rig: Rig, rows: FloatArray) -> float:
    """How far the layers above and below the lips come apart on the rays that prolong the lip line, at worst over rows (n, controls), pixels."""
    rays = np.abs(rig.contour_s) > 1.0
    idle = rig.motion.weights[np.arange(len(rows)) % len(rig.motion.weights)]
    weights = np.concatenate([idle, [fit_row(rig, row).weights for row in rows]], axis=1)
    apart = weights @ (rig.upper_contour.moves - rig.lower_contour.moves)
    apart = apart.reshape(len(rows), -1, 2) + (rig.upper_contour.rest - rig.lower_contour.rest)
    return float(np.linalg.norm(apart[:, rays], axis=2).max())


def sharpness(rig: Rig, background: ByteArray, portrait_bgr: ByteArray) -> tuple[float, float]:
    """Sharpness of the upper face in the idle loop, as a share of the portrait's at the same size: mean and standard deviation over frames.

    background: I420 (n, size * 3 // 2, size), as drawn, not encoded.
    """
    size = rig.size
    small = cv2.resize(portrait_bgr, (size, size), interpolation=cv2.INTER_AREA)
    still = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2YUV_I420)[:size], np.uint8)
    left, right = (round(float(rig.landmarks[n, 0])) for n in BROW_ENDS)
    above, below = (round(float(rig.landmarks[n, 1])) for n in (FOREHEAD, NOSE))
    face = slice(above, below), slice(left, right)
    reference = _detail(still[face])
    open_eyed = np.flatnonzero(rig.motion.lids < OPEN_LIDS)
    shares = np.array([_detail(background[n][:size][face]) / reference for n in open_eyed])
    return float(shares.mean()), float(shares.std())


def _detail(luma: ByteArray) -> float:
    return float(cv2.Laplacian(np.ascontiguousarray(luma), cv2.CV_64F).var())

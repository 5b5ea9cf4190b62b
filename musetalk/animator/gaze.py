"""Looks and blinks: the texture that a frame is warped from, with the eyes as they are in that frame.

A frame is one warp, so lids and eyeballs are laid into the texture before it, and only those that have moved since the frame before. An eye that
looks where it lately looked is there already.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from museserve.messages import ByteArray
from musetalk.animator.colors import Planes
from musetalk.animator.eyelids import LEVELS, Eye
from musetalk.animator.idle import LID_FOLLOWS
from musetalk.animator.rig import TEXTURE_SCALE, Rig
from musetalk.animator.sampling import over, sample_at

LOOK_STEPS = 4  # places of an eyeball on each texture pixel: it moves by eighths of an output pixel, which nobody sees
KEPT_EYES = 64  # of a rig, about 14 kB each at 512
CANVASES = 8  # rigs of a thread, 1.5 MB each at 512

_own = threading.local()


class Canvas:
    """A rig's texture with eyes in it, for one thread. planes: as the rig's own. dropped: called when the rig is no more."""

    def __init__(self, rig: Rig, dropped: Callable[[object], object]) -> None:
        self._rig = weakref.ref(rig, dropped)
        self.planes = Planes(rig.luma.copy(), rig.chroma_u.copy(), rig.chroma_v.copy())
        self._shown: list[tuple[int, ...]] = [()] * len(rig.eyes)
        self._drawn: OrderedDict[tuple[int, ...], tuple[ByteArray, ...]] = OrderedDict()

    def is_of(self, rig: Rig) -> bool:
        return self._rig() is rig

    def look(self, rig: Rig, lid: float, gaze: tuple[float, float]) -> None:
        """Lay both eyes in, as `texture_with_eyes` says."""
        (x_x, x_y), (y_x, y_y) = (rig.anatomy.axes * (rig.anatomy.scale * TEXTURE_SCALE * LOOK_STEPS)).tolist()
        steps = round(gaze[0] * x_x + gaze[1] * y_x), round(gaze[0] * x_y + gaze[1] * y_y)
        shut = round((lid + LID_FOLLOWS * gaze[1] * (1 - lid)) * (LEVELS - 1))
        for number, eye in enumerate(rig.eyes):
            key = number, min(max(shut, 0), len(eye.lid) - 1), *steps
            if key == self._shown[number]:
                continue
            drawn = self._drawn.get(key)
            if drawn is None:
                drawn = self._drawn[key] = _drawn(eye, key[1], (steps[0] / LOOK_STEPS, steps[1] / LOOK_STEPS))
                if len(self._drawn) > KEPT_EYES:
                    self._drawn.popitem(last=False)
            else:
                self._drawn.move_to_end(key)
            x, y, w, h = eye.rect.tolist()
            for plane, part, share in zip(self.planes, drawn, (1, 2, 2), strict=True):
                plane[y // share : (y + h) // share, x // share : (x + w) // share] = part
            self._shown[number] = key


def texture_with_eyes(rig: Rig, lid: float, gaze: tuple[float, float]) -> Planes:
    """The rig's texture with the eyes in it; it is this thread's until its next call for the same rig.

    Args:
        lid: 0 open .. 1 shut. gaze: mm right and down.
    """
    canvas = _canvas_of(rig)
    canvas.look(rig, lid, gaze)
    return canvas.planes


def _canvas_of(rig: Rig) -> Canvas:
    """This thread's canvas of a rig; those used last are kept, and none longer than its rig: a face that was deleted is nowhere."""
    canvases: OrderedDict[int, Canvas] = _own.__dict__.setdefault("canvases", OrderedDict())
    key = id(rig)
    canvas = canvases.get(key)
    if canvas is None or not canvas.is_of(rig):
        canvas = canvases[key] = Canvas(rig, lambda _: canvases.pop(key, None))
        if len(canvases) > CANVASES:
            canvases.popitem(last=False)
    canvases.move_to_end(key)
    return canvas


def _drawn(eye: Eye, level: int, shift: tuple[float, float]) -> tuple[ByteArray, ...]:
    """An eye in the rectangle of its three planes: the lids at a level, the eyeball behind them shifted by texture pixels right and down."""
    _, _, w, h = eye.rect.tolist()
    x = np.arange(w, dtype=np.float32) - eye.mobility * np.float32(shift[0])
    y = np.arange(h, dtype=np.float32)[:, None] - eye.mobility * np.float32(shift[1])
    half_x, half_y = x[::2, ::2] * np.float32(0.5), y[::2, ::2] * np.float32(0.5)
    return (
        over(eye.lid[level], sample_at(eye.ball, x, y), eye.share[level]),
        over(eye.lid_u[level], sample_at(eye.ball_u, half_x, half_y), eye.share_uv[level]),
        over(eye.lid_v[level], sample_at(eye.ball_v, half_x, half_y), eye.share_uv[level]),
    )

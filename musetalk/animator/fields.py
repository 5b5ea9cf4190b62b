"""How each control moves the face: smooth displacement fields in millimetres, one set for all that lies above the lips and one for below.

Both layers are defined everywhere, each extended constantly across the lip line, and are equal on the rays that prolong the lip line
beyond the corners: so there is no seam to hide. A frame's field is the weighted sum of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from musetalk.animator.anatomy import Anatomy, Array, ramp, smoothstep
from musetalk.animator.lipline import LipLine
from musetalk.speech_cues.controls import JAW_MM, LOWER_DROP_MM, UPPER_RAISE_MM

Layer = Literal["upper", "lower"]

# Speech fields, in order. `pucker` is driven by jaw x round and bends the opening to an ellipse.
SPEECH_FIELDS = (
    "jaw",
    "lower_drop",
    "upper_raise",
    "wide",
    "round",
    "press",
    "ftuck",
    "smile",
    "lip_close",
    "seal",
    "brow_up",
    "pucker",
    "nod",
    "rise",
    "turn",
)
IDLE_FIELDS = ("smile", "yaw", "pitch", "roll", "shift_x", "shift_y", "breath")


@dataclass(frozen=True)
class LipMove:
    """What one lip does at weight 1.

    down: mm in the middle; in lip_close and seal share of the opening. reach: mm beyond the red in which skin follows.
    edge: mm that the red's outer edge moves away from the mouth.
    """

    down: float = 0.0
    reach: float = 1.0
    edge: float = 0.0


@dataclass(frozen=True)
class CornerMove:
    """What both corners do at weight 1, mm: `out` and `down`; fades over `reach` above and below the lip line."""

    out: float
    down: float
    reach: float


BROW_MM = 3.0

# Upper lip, lower lip: the lower one takes more of what both do, and skin follows it further.
LIP_MOVES = {
    "lower_drop": (LipMove(), LipMove(LOWER_DROP_MM, 7.0)),
    "upper_raise": (LipMove(-UPPER_RAISE_MM, 6.0), LipMove()),
    "wide": (LipMove(edge=-0.35), LipMove(edge=-0.7)),
    "round": (LipMove(edge=1.7), LipMove(edge=1.5)),
    "press": (LipMove(edge=-0.8), LipMove(edge=-1.3)),
    "ftuck": (LipMove(-2.8, 6.0), LipMove(-1.6, 9.0, edge=-1.1)),
    "lip_close": (LipMove(0.32, 7.0), LipMove(-0.68, 11.0)),
    "seal": (LipMove(0.28, 7.0), LipMove(-0.72, 11.0)),
    "pucker": (LipMove(-0.30 * JAW_MM, 6.0), LipMove(0.70 * JAW_MM, 9.0)),
}
CORNER_MOVES = {
    "jaw": CornerMove(-2.8, 2.4, 15.0),
    "wide": CornerMove(4.2, -0.9, 20.0),
    "round": CornerMove(-6.5, 2.0, 20.0),  # down, because the line of pursed lips is level
}
CORNER_REACH_MM = 17.0  # how far into the cheek the corners' motion is felt

# Widths of arcs are in half widths of the mouth, those of the cheeks in half widths of the jaw.
CORNER = 0.3  # the end of an arc that becomes an acute corner
LIP_POWER = 0.75  # of the arc in which the lip line opens
EDGE_WIDTH, EDGE_POWER, EDGE_REACH_MM = 1.15, 1.3, 6.0  # of the arc in which the red's outer edge moves
PUCKER_WIDTH, PUCKER_POWER = 0.80, 0.6  # of the opening of a full "oo"
PUCKER_EDGE = 0.5  # by so much less the lower lip's outer edge takes part in it

JAW_TOP_MM, JAW_TOP_POWER = 26.0, 1.15  # above the mouth's corners, where cheeks begin to follow the jaw
JAW_WIDTH, JAW_LEAST = 0.8, 0.12  # within the width they follow in full, outside at least so much
JAW_BELOW_MM, JAW_NECK_MM = 2.0, 42.0  # from so far below the chin the neck stays, more and more over so many mm
SIDE, SIDE_FADE = 0.84, 0.27  # from there, and over how much, speech fades out: the sides of the face stay
UPPER_STAYS = 0.3  # from the mouth's middle the jaw does not pull at the upper lip
# Between the lower lip and the chin skin follows the jaw itself, within an arc that is wider and rounder further down.
BOWL_WIDENS, BOWL_WIDENING = 0.55, 1.1  # what it gains by 1/1.1 of the way to the chin
BOWL_POWER, BOWL_ROUNDS, BOWL_ROUNDING = 0.66, 1.04, 3.0  # power at the lip, and what it gains by 1/3 of the way
UPPER_FADE_MM, UPPER_FADE_CHIN_MM = 12.0, 20.0  # below the lip line; it fades over the chin's distance more

SMILE_OUT_MM, SMILE_UP_MM = 2.6, 2.4  # of the corners
SMILE_WIDTH, SMILE_REACH_MM = 0.65, 14.0  # sideways in half widths of the mouth; up and down
CHEEK_UP_MM = 0.9
CHEEK_SIDE, CHEEK_ABOVE_MM = 1.35, 26.0  # the cheek's middle: half widths of the mouth, mm above the lip line
CHEEK_WIDTH_MM, CHEEK_HEIGHT_MM, CHEEK_CLEAR_MM = 15.0, 13.0, 8.0  # up to the last above the lip line it rises less

BROW_WIDTH_MM, BROW_ABOVE_MM = 19.0, 22.0
BROW_BELOW, BROW_CLEARANCE_MM = 0.55, 6.0  # share of the way to the lid, which counts as at least so long

HEAD_DEPTH_MM, HEAD_FLATNESS = 65.0, 0.8  # of an ellipsoid before the axis, cut off where the rim still has depth
NOSE_DEPTH_MM, NOSE_WIDTH_MM, NOSE_HEIGHT_MM = 16.0, 9.0, 14.0
PITCH = 0.9  # a nod moves a point by this share of what a turn of as many degrees does
HEAD_INNER, HEAD_OUTER = 1.02, 1.77  # sway: elliptic radii between which the head's motion fades into the background
NOD_INNER, NOD_OUTER = 0.82, 1.18  # nods in speech are small: they may fade inside the hair, which keeps the box small
TURN_ROLL = 0.35  # a head that turns in speech tilts by this share, about its own middle
NECK_MM, ROLL_PIVOT_MM = 80.0, 30.0  # below the chin: where the head's motion ends, and what it tilts about
BREATH_MM, BREATH_SHOULDERS_MM = 0.35, 0.55  # up: everything, and the shoulders besides
SHOULDERS_MM, SHOULDERS_FADE_MM = 10.0, 60.0  # they begin so far above the chin, and are all shoulder so much lower
MARGIN = 0.05  # of the picture's size: motion dies out towards the left, right and top border

NOSE_TIP = 1
BROWS = ((70, 63, 105, 66, 107), (336, 296, 334, 293, 300))
LIDS = ((160, 159, 158), (385, 386, 387))


def _gauss(distance: Array, width: float) -> Array:
    g: Array = np.exp(-((distance / width) ** 2))
    return g


def _corner(u: Array) -> Array:
    """Takes the infinite slope off an elliptic arc at |u| = 1, which the grid could not follow: real corners are acute."""
    t = np.clip((1 - np.abs(u)) / CORNER, 0.0, 1.0)
    corner: Array = t * (2 - t)
    return corner


def _arc(u: Array, power: float | Array) -> Array:
    """(1 - u²)^power: 1 in the middle, 0 from |u| = 1 on."""
    arc: Array = np.maximum(1 - u**2, 0.0) ** power
    return arc


def _own_side(below: Array, upper: bool) -> Array:
    """`below` the lip line, mm; a point on the other lip's side counts as on the line."""
    return np.minimum(below, 0.0) if upper else np.maximum(below, 0.0)


def _vertical(y: Array) -> Array:
    return np.stack([np.zeros_like(y), y], -1)


def _sideways(x: Array) -> Array:
    return np.stack([x, np.zeros_like(x)], -1)


class FaceFields:
    """Evaluates the basis fields of one face at any points (face frame, mm)."""

    def __init__(self, anatomy: Anatomy, line: LipLine) -> None:
        self.anatomy = anatomy
        self.line = line

    def speech(self, points: Array, layer: Layer) -> Array:
        """Points (n, 2) -> (len(SPEECH_FIELDS), n, 2) displacements in mm at weight 1."""
        upper = layer == "upper"
        face, half = self.anatomy, self.anatomy.half_width
        x = points[:, 0]
        contour = self._contour(x, upper)
        below = points[:, 1] - contour
        v = _own_side(below, upper)  # both layers are extended constantly
        ax, u = np.abs(x), np.abs(x) / half

        thickness = face.upper_lip if upper else face.lower_lip
        beyond = np.maximum(np.abs(v) - thickness, 0.0)
        across = smoothstep(np.abs(v) / thickness)
        outer = _arc(u / EDGE_WIDTH, EDGE_POWER)
        profile = _arc(u, LIP_POWER) * _corner(u) * (1 - across) + outer * across
        edge = across * outer * _gauss(beyond, EDGE_REACH_MM) * (-1.0 if upper else 1.0)  # outwards
        opening = self._jaw_opening(x)
        ellipse = _arc(u / PUCKER_WIDTH, PUCKER_POWER) * _corner(u / PUCKER_WIDTH)
        along = {"lip_close": opening, "seal": self.line.opening(x), "pucker": ellipse * (face.jaw_mm / JAW_MM)}
        lateral = np.sign(x) * np.where(u < 1, u, _gauss(np.maximum(ax - half, 0.0), CORNER_REACH_MM))
        lateral *= self._beside(ax)

        fields = {"smile": self._smile(x, v, upper), "jaw": _vertical(self.anatomy.jaw_mm * self._jaw(x, contour + v, v, upper))}
        for name, moves in LIP_MOVES.items():
            move = moves[0 if upper else 1]
            down = move.down * along.get(name, profile)
            if name == "pucker" and not upper:  # the ellipse stands in for the opening that the jaw makes
                down = (down - opening) * (1 - PUCKER_EDGE * across)
            fields[name] = _vertical(down * _gauss(beyond, move.reach) + move.edge * edge)
        for name, corner in CORNER_MOVES.items():
            reach = _gauss(v, corner.reach)
            corners = _sideways(corner.out * lateral * reach) + _vertical(corner.down * lateral**2 * reach)
            fields[name] = fields[name] + corners
        if upper:
            fade = self._fade(below)[:, None]
            fields = {name: field * fade for name, field in fields.items()}
        fields["brow_up"] = _vertical(-BROW_MM * self._brows(points) if upper else np.zeros_like(x))
        weight = self._head_weight(points, NOD_INNER, NOD_OUTER)
        fields["nod"] = _vertical(PITCH * self._depth(points) * weight * np.pi / 180)
        fields["rise"] = _vertical(-weight)
        fields["turn"] = self._turn(points) * weight[:, None]
        return np.stack([fields[name] for name in SPEECH_FIELDS]) * self._window(points)[:, None]

    def idle(self, points: Array, layer: Layer) -> Array:
        """Points (n, 2) -> (len(IDLE_FIELDS), n, 2) displacements in mm per degree, per mm and at weight 1."""
        face = self.anatomy
        x, y = points[:, 0], points[:, 1]
        weight = self._head_weight(points, HEAD_INNER, HEAD_OUTER)
        depth = self._depth(points)
        radian = np.pi / 180
        pivot = face.chin + ROLL_PIVOT_MM
        shoulders = ramp(y - face.chin, -SHOULDERS_MM, SHOULDERS_FADE_MM)
        fields = {
            "yaw": _sideways(depth * weight * radian),
            "pitch": _vertical(PITCH * depth * weight * radian),
            "roll": np.stack([-(y - pivot), x - face.head_center[0]], -1) * (weight * radian)[:, None],
            "shift_x": _sideways(weight),
            "shift_y": _vertical(weight),
            "breath": _vertical(-(BREATH_MM + BREATH_SHOULDERS_MM * shoulders)),
        }
        upper = layer == "upper"
        below = y - self._contour(x, upper)
        fields["smile"] = self._smile(x, _own_side(below, upper), upper)
        if upper:
            fields["smile"] *= self._fade(below)[:, None]
        return np.stack([fields[name] for name in IDLE_FIELDS]) * self._window(points)[:, None]

    def _contour(self, x: Array, upper: bool) -> Array:
        return self.line.upper(x) if upper else self.line.lower(x)

    def _smile(self, x: Array, v: Array, upper: bool) -> Array:
        half = self.anatomy.half_width
        right, left = _gauss(x - half, SMILE_WIDTH * half), _gauss(x + half, SMILE_WIDTH * half)
        reach = _gauss(v, SMILE_REACH_MM)
        out, up = SMILE_OUT_MM * (right - left) * reach, SMILE_UP_MM * (right + left) * reach
        smile: Array = _sideways(out) + _vertical(-up)
        if upper:
            cheek = _gauss(np.abs(x) - CHEEK_SIDE * half, CHEEK_WIDTH_MM) * _gauss(v + CHEEK_ABOVE_MM, CHEEK_HEIGHT_MM)
            smile = smile + _vertical(-CHEEK_UP_MM * (cheek * smoothstep(-v / CHEEK_CLEAR_MM)))
        smile *= self._beside(np.abs(x))[:, None]
        return smile

    def _fade(self, below: Array) -> Array:
        """The upper layer's fields die out `below` the lip line (mm): shoulders and hair stay."""
        return 1 - ramp(below, UPPER_FADE_MM, self.anatomy.chin + UPPER_FADE_CHIN_MM)

    def _beside(self, ax: Array) -> Array:
        jaw = self.anatomy.jaw_half
        return 1 - ramp(ax, SIDE * jaw, SIDE_FADE * jaw)

    def _jaw(self, x: Array, y: Array, v: Array, upper: bool) -> Array:
        """How far points (x, y) of a layer follow the jaw, 0..1. v: how much of y lies below the lip line, mm."""
        face, ax = self.anatomy, np.abs(x)
        whole = 1 - ramp(y - face.chin, JAW_BELOW_MM, JAW_NECK_MM)
        sides = JAW_LEAST + (1 - JAW_LEAST) * np.exp(-((x / (JAW_WIDTH * face.jaw_half)) ** 4))
        cheek = ramp(y, -JAW_TOP_MM, face.chin + JAW_TOP_MM) ** JAW_TOP_POWER * sides * whole * self._beside(ax)
        jaw: Array
        if upper:
            jaw = cheek * ramp(ax, UPPER_STAYS * face.half_width, (1 - UPPER_STAYS) * face.half_width)
        else:
            jaw = cheek + (whole - cheek) * self._bowl(x, v)
        return jaw

    def _bowl(self, x: Array, v: Array) -> Array:
        """How far a point below the lip line follows the jaw itself and not the cheek beside it, 0..1."""
        depth = v / self.anatomy.chin
        u = x / (self.anatomy.half_width * (1 + BOWL_WIDENS * smoothstep(BOWL_WIDENING * depth)))
        deep = smoothstep(BOWL_ROUNDING * depth)
        bowl: Array = _arc(u, BOWL_POWER + BOWL_ROUNDS * deep) * (deep + (1 - deep) * _corner(u))
        return bowl

    def _jaw_opening(self, x: Array) -> Array:
        """Gap in mm along the lip line that jaw = 1 makes: the difference of the two layers there."""
        lower, upper = (self._jaw(x, self._contour(x, above), np.zeros_like(x), above) for above in (False, True))
        opening: Array = self.anatomy.jaw_mm * (lower - upper) * (np.abs(x) < self.anatomy.half_width)
        return opening

    def _brows(self, points: Array) -> Array:
        total: Array = np.zeros(len(points))
        for brow, lid in zip(BROWS, LIDS, strict=True):
            center = self.anatomy.at(*brow).mean(0)
            clearance = max(float(self.anatomy.at(*lid)[:, 1].mean() - center[1]), BROW_CLEARANCE_MM)
            dy = points[:, 1] - center[1]
            across = np.exp(-((np.abs(points[:, 0] - center[0]) / BROW_WIDTH_MM) ** 3))
            total = total + across * np.where(dy < 0, _gauss(dy, BROW_ABOVE_MM), _gauss(dy, BROW_BELOW * clearance))
        return total

    def _radius(self, points: Array) -> Array:
        radius: Array = np.hypot(*((points - self.anatomy.head_center) / self.anatomy.head_axes).T)
        return radius

    def _head_weight(self, points: Array, inner: float, outer: float) -> Array:
        fade = 1 - ramp(self._radius(points), inner, outer - inner)
        neck = 1 - smoothstep((points[:, 1] - self.anatomy.chin) / NECK_MM)
        weight: Array = fade * neck
        return weight

    def _depth(self, points: Array) -> Array:
        """How far a point lies in front of the axis that the head turns about, mm."""
        radius = np.minimum(self._radius(points), 1.0)
        x, y = (points - self.anatomy.at(NOSE_TIP)[0]).T
        nose = NOSE_DEPTH_MM * np.exp(-((x / NOSE_WIDTH_MM) ** 2) - (y / NOSE_HEIGHT_MM) ** 2)
        depth: Array = HEAD_DEPTH_MM * np.sqrt(1 - HEAD_FLATNESS * radius**2) + nose
        return depth

    def _turn(self, points: Array) -> Array:
        """mm that a point moves when the head turns by a degree in speech."""
        x, y = (points - self.anatomy.head_center).T
        turn: Array = (_sideways(self._depth(points)) + TURN_ROLL * np.stack([-y, x], -1)) * (np.pi / 180)
        return turn

    def _window(self, points: Array) -> Array:
        pixels = self.anatomy.to_pixels(points)
        size = self.anatomy.size
        margin = MARGIN * size
        x = np.minimum(pixels[:, 0] + 0.5, size - 0.5 - pixels[:, 0]) / margin
        window: Array = smoothstep(x) * smoothstep((pixels[:, 1] + 0.5) / margin)
        return window

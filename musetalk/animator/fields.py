"""How each control moves the face: smooth displacement fields in millimetres, one set for all that lies above the lips and one for below.

Both layers are defined everywhere, each extended constantly across the lip line, and are equal on the rays that prolong the lip line
beyond the corners: so there is no seam to hide. A frame's field is the weighted sum of these.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from musetalk.animator.anatomy import Anatomy, Array, smoothstep
from musetalk.animator.lipline import LipLine

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
)
IDLE_FIELDS = ("smile", "yaw", "pitch", "roll", "shift_x", "shift_y", "breath")

JAW_MM = 15.0
LOWER_DROP_MM = 4.5
UPPER_RAISE_MM = 3.2
WIDE_MM = 4.2
ROUND_MM = 6.5
ROUND_DOWN_MM = 2.0  # of the corners: the line of pursed lips is level
BROW_MM = 3.0
LOWER_CLOSE, UPPER_CLOSE = 0.68, 0.32
LOWER_SEAL, UPPER_SEAL = 0.72, 0.28
CORNER = 0.13  # share of the mouth's half width
PUCKER_WIDTH = 0.80  # half width of the opening of a full "oo", share of the mouth's
PUCKER_LOWER, PUCKER_UPPER = 0.70, 0.30

HEAD_DEPTH_MM, NOSE_DEPTH_MM = 65.0, 16.0
HEAD_INNER, HEAD_OUTER = 1.02, 1.77  # sway: elliptic radii between which the head's motion fades into the background
NOD_INNER, NOD_OUTER = 0.82, 1.18  # nods while speaking are small: they may fade inside the hair, which keeps the speech box small
NECK_MM = 80.0
ROLL_PIVOT_MM = 30.0  # below the chin
MARGIN = 0.05  # of the picture's size: motion dies out towards the left, right and top border

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
        face, line = self.anatomy, self.line
        x, y_true = points[:, 0], points[:, 1]
        half, chin = face.half_width, face.chin
        ax, sign = np.abs(x), np.sign(x)
        u = ax / half
        contour = line.upper(x) if upper else line.lower(x)
        v_true = y_true - contour
        v = np.minimum(v_true, 0.0) if upper else np.maximum(v_true, 0.0)
        y = contour + v
        distance = np.abs(v)

        thickness = face.upper_lip if upper else face.lower_lip
        beyond = np.maximum(distance - thickness, 0.0)
        lens = np.maximum(1 - u * u, 0.0) ** 0.75 * _corner(u)
        lens_edge = np.maximum(1 - (u / 1.15) ** 2, 0.0) ** 1.3
        across = smoothstep(distance / thickness)
        profile = lens * (1 - across) + lens_edge * across
        beside = 1 - smoothstep((ax - 0.84 * face.jaw_half) / (0.27 * face.jaw_half))  # nothing that speech does leaves the lower face's sides
        lateral = sign * np.where(u < 1, u, _gauss(np.maximum(ax - half, 0.0), 17.0)) * beside
        edge = across * lens_edge * _gauss(beyond, 6.0) * (-1.0 if upper else 1.0)  # moves a lip's outer edge outwards
        zero = np.zeros_like(x)

        below = 1 - smoothstep((y - chin - 2) / 42)
        side = smoothstep((y + 26) / (chin + 26)) ** 1.15 * (0.12 + 0.88 * np.exp(-((x / (0.8 * face.jaw_half)) ** 4))) * below * beside
        if upper:
            jaw = side * smoothstep((ax - 0.3 * half) / (0.7 * half))
        else:
            jaw = side + (below - side) * self._bowl(x, v)
        jaw_field = _vertical(JAW_MM * jaw) + _sideways(-1.6 * lateral * _gauss(v, 15.0))

        opening = self._jaw_opening(x)
        narrow = np.maximum(1 - (u / PUCKER_WIDTH) ** 2, 0.0) ** 0.6 * _corner(u / PUCKER_WIDTH)
        if upper:
            close = UPPER_CLOSE * opening * _gauss(beyond, 7.0)
            seal = UPPER_SEAL * line.opening(x) * _gauss(beyond, 7.0)
            pucker = -PUCKER_UPPER * JAW_MM * narrow * _gauss(beyond, 6.0)
            lips = {"lower_drop": zero, "upper_raise": -UPPER_RAISE_MM * profile * _gauss(beyond, 6.0), "ftuck": -2.8 * profile * _gauss(beyond, 6.0)}
        else:
            close = -LOWER_CLOSE * opening * _gauss(beyond, 11.0)
            seal = -LOWER_SEAL * line.opening(x) * _gauss(beyond, 11.0)
            pucker = (PUCKER_LOWER * JAW_MM * narrow - opening) * _gauss(beyond, 9.0) * (1 - 0.5 * across)
            lips = {
                "lower_drop": LOWER_DROP_MM * profile * _gauss(beyond, 7.0),
                "upper_raise": zero,
                "ftuck": -1.6 * profile * _gauss(beyond, 9.0) - 1.1 * edge,
            }

        reach = _gauss(v, 20.0)
        fields = {
            "jaw": jaw_field,
            "lower_drop": _vertical(lips["lower_drop"]),
            "upper_raise": _vertical(lips["upper_raise"]),
            "wide": _sideways(WIDE_MM * lateral * reach) + _vertical(-0.9 * np.abs(lateral) ** 2 * reach - (0.35 if upper else 0.7) * edge),
            "round": _sideways(-ROUND_MM * lateral * reach) + _vertical(ROUND_DOWN_MM * lateral**2 * reach + (1.7 if upper else 1.5) * edge),
            "press": _vertical(-(0.8 if upper else 1.3) * edge),
            "ftuck": _vertical(lips["ftuck"]),
            "smile": self._smile(x, v, upper),
            "lip_close": _vertical(close),
            "seal": _vertical(seal),
            "pucker": _vertical(pucker),
        }
        if upper:
            fade = self._fade(v_true)
            fields = {name: field * fade[:, None] for name, field in fields.items()}
            fields["brow_up"] = _vertical(-BROW_MM * self._brows(points))
        else:
            fields["brow_up"] = _vertical(zero)
        weight = self._head_weight(points, NOD_INNER, NOD_OUTER)
        fields["nod"] = _vertical(0.9 * self._depth(points) * weight * np.pi / 180)
        fields["rise"] = _vertical(-weight)
        window = self._window(points)
        return np.stack([fields[name] for name in SPEECH_FIELDS]) * window[:, None]

    def idle(self, points: Array, layer: Layer) -> Array:
        """Points (n, 2) -> (len(IDLE_FIELDS), n, 2) displacements in mm per degree, per mm and at weight 1."""
        face = self.anatomy
        x, y = points[:, 0], points[:, 1]
        weight = self._head_weight(points, HEAD_INNER, HEAD_OUTER)
        depth = self._depth(points)
        radian = np.pi / 180
        pivot = face.chin + ROLL_PIVOT_MM
        shoulders = smoothstep((y - face.chin + 10) / 60)
        fields = {
            "yaw": _sideways(depth * weight * radian),
            "pitch": _vertical(0.9 * depth * weight * radian),
            "roll": np.stack([-(y - pivot), x - face.head_center[0]], -1) * (weight * radian)[:, None],
            "shift_x": _sideways(weight),
            "shift_y": _vertical(weight),
            "breath": _vertical(-(0.35 + 0.55 * shoulders)),
        }
        upper = layer == "upper"
        v_true = y - (self.line.upper(x) if upper else self.line.lower(x))
        fields["smile"] = self._smile(x, np.minimum(v_true, 0.0) if upper else np.maximum(v_true, 0.0), upper)
        if upper:
            fields["smile"] *= self._fade(v_true)[:, None]
        return np.stack([fields[name] for name in IDLE_FIELDS]) * self._window(points)[:, None]

    def _smile(self, x: Array, v: Array, upper: bool) -> Array:
        half = self.anatomy.half_width
        right, left = _gauss(x - half, 0.65 * half), _gauss(x + half, 0.65 * half)
        reach = _gauss(v, 14.0)
        smile: Array = _sideways(2.6 * (right - left) * reach) + _vertical(-2.4 * (right + left) * reach)
        if upper:
            cheek = _gauss(np.abs(x) - 1.35 * half, 15.0) * _gauss(v + 26.0, 13.0) * smoothstep(-v / 8)
            smile = smile + _vertical(-0.9 * cheek)
        return smile

    def _fade(self, below: Array) -> Array:
        """The upper layer's fields die out `below` the lip line (mm): shoulders and hair stay."""
        return 1 - smoothstep((below - 12) / (self.anatomy.chin + 20))

    def _bowl(self, x: Array, v: Array) -> Array:
        """How far a point below the lip line follows the jaw itself and not the cheek beside it, 0..1."""
        depth = v / self.anatomy.chin
        width = self.anatomy.half_width * (1 + 0.55 * smoothstep(1.1 * depth))
        deep = smoothstep(3 * depth)
        bowl: Array = np.maximum(0.0, 1 - (x / width) ** 2) ** (0.66 + 1.04 * deep) * (deep + (1 - deep) * _corner(x / width))
        return bowl

    def _jaw_opening(self, x: Array) -> Array:
        """Gap in mm along the lip line that jaw = 1 makes: the difference of the two layers there."""
        face = self.anatomy

        def side(y: Array) -> tuple[Array, Array]:
            below = 1 - smoothstep((y - face.chin - 2) / 42)
            ax = np.abs(x)
            beside = smoothstep((y + 26) / (face.chin + 26)) ** 1.15 * (0.12 + 0.88 * np.exp(-((x / (0.8 * face.jaw_half)) ** 4))) * below
            return below, beside * (1 - smoothstep((ax - 0.84 * face.jaw_half) / (0.27 * face.jaw_half)))

        below, lower_side = side(self.line.lower(x))
        _, upper_side = side(self.line.upper(x))
        lower = lower_side + (below - lower_side) * self._bowl(x, np.zeros_like(x))
        upper = upper_side * smoothstep((np.abs(x) - 0.3 * face.half_width) / (0.7 * face.half_width))
        opening: Array = JAW_MM * (lower - upper) * (np.abs(x) < face.half_width)
        return opening

    def _brows(self, points: Array) -> Array:
        total: Array = np.zeros(len(points))
        for brow, lid in zip(BROWS, LIDS, strict=True):
            center = self.anatomy.at(*brow).mean(0)
            clearance = max(float(self.anatomy.at(*lid)[:, 1].mean() - center[1]), 6.0)
            dy = points[:, 1] - center[1]
            across = np.exp(-((np.abs(points[:, 0] - center[0]) / 19.0) ** 3))
            total = total + across * np.where(dy < 0, _gauss(dy, 22.0), _gauss(dy, 0.55 * clearance))
        return total

    def _radius(self, points: Array) -> Array:
        radius: Array = np.hypot(*((points - self.anatomy.head_center) / self.anatomy.head_axes).T)
        return radius

    def _head_weight(self, points: Array, inner: float, outer: float) -> Array:
        fade = 1 - smoothstep((self._radius(points) - inner) / (outer - inner))
        neck = 1 - smoothstep((points[:, 1] - self.anatomy.chin) / NECK_MM)
        weight: Array = fade * neck
        return weight

    def _depth(self, points: Array) -> Array:
        """How far a point lies in front of the axis that the head turns about, mm."""
        radius = np.minimum(self._radius(points), 1.0)
        nose = self.anatomy.at(1)[0]
        bump = NOSE_DEPTH_MM * np.exp(-(((points[:, 0] - nose[0]) / 9) ** 2) - ((points[:, 1] - nose[1]) / 14) ** 2)
        depth: Array = HEAD_DEPTH_MM * np.sqrt(1 - 0.8 * radius**2) + bump
        return depth

    def _window(self, points: Array) -> Array:
        pixels = self.anatomy.to_pixels(points)
        size = self.anatomy.size
        margin = MARGIN * size
        x = np.minimum(pixels[:, 0] + 0.5, size - 0.5 - pixels[:, 0]) / margin
        window: Array = smoothstep(x) * smoothstep((pixels[:, 1] + 0.5) / margin)
        return window

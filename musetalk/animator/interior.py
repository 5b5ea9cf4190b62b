"""What shows between parted lips: cavity, tongue, lower teeth and upper teeth, painted once per avatar in the light of its photograph.

Upper teeth are fixed to the skull, lower teeth and tongue to the jaw. All is darkened by the gap's size and by the distance
from the upper lip, in a reddish way: grey shadows make teeth look dirty.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace

import cv2
import numpy as np

from museserve.messages import ByteArray, FloatArray
from musetalk.animator.anatomy import Array, ramp, smoothstep
from musetalk.animator.colors import LUMA_WEIGHTS

FINE = 10  # pixels per mm of the painting, before it is scaled to the avatar


@dataclass(frozen=True)
class Tooth:
    """One tooth, mm. light: 0..1 of a front tooth's; radius: of its biting edge's corners; step: of that edge, down."""

    width: float
    light: float
    radius: float = 1.3
    step: float = 0.0


# From the middle outwards: two incisors, the canine, two premolars, a molar.
UPPER_TEETH = (
    Tooth(8.4, 1.0, 1.7, 0.0),
    Tooth(6.6, 0.97, 1.9, -0.32),
    Tooth(6.8, 0.94, 2.4, -0.05),
    Tooth(5.2, 0.88, 2.0, -0.35),
    Tooth(4.2, 0.81, 2.0, -0.3),
    Tooth(3.4, 0.74, 2.0, -0.2),
)
LOWER_TEETH = tuple(map(Tooth, (5.3, 5.8, 6.2, 5.6, 5.0, 4.0), (0.98, 0.98, 0.95, 0.88, 0.80, 0.70)))
UPPER_EDGE_MM, LOWER_EDGE_MM = 2.6, -0.6  # of the biting edge below the lip line
UPPER_HEIGHT_MM, LOWER_HEIGHT_MM = 9.2, 8.0
ARCH, LOWER_ARCH = 0.0056, 0.6  # the upper edge rises by the first times x²; the lower one falls by this share of it
LOWER_BRIGHTNESS, LOWER_GUM_BRIGHTNESS = 0.83, 0.85
LOWER_TINT = (1.0, 0.955, 0.91)
BORDER_SHADE, LOWER_BORDER_SHADE = 0.17, 0.24  # between two teeth
# Below the upper row lies its shadow: without it, a lower row that touches it reads as clenched.
ROW_SHADOW, ROW_SHADOW_MM = 0.85, 1.0

# Enamel is a warm white, in the light of the photograph: the eyes' white shows it, and skin.
TOOTH_WHITE = (1.0, 0.945, 0.855)
TOOTH_LIGHT, TOOTH_LIGHT_RANGE = 1.12, (80, 230)  # luma against the cheek's
SKIN_SHARE, EYE_SHARE = 0.12, 0.5
WHITE_RANGE = (0.70, 1.0)  # of a channel of the eyes' white against its largest: more colour is not light but redness
USUAL_LIGHT = 205.0  # in which the colours below are
GUM = (178, 96, 98)
TONGUE = (176, 96, 98)
# It is wet: mm right of its middle, width, down, height.
TONGUE_GLEAMS = ((-3.8, 3.0, 2.8, 0.8), (4.6, 1.8, 3.2, 0.6), (-7.4, 1.2, 4.4, 0.5))
GLEAM = (34, 30, 31)
CAVITY_TOP, CAVITY_FLOOR = (26, 8, 8), (104, 40, 38)
TONGUE_HALF_MM = (17.5, 8.0)
RED_EXPONENTS = (1.0, 1.40, 1.36)

X_RANGE = (-34.0, 34.0)
UPPER_Y = (-14.0, 5.0)
LOWER_Y = (-2.0, 14.0)
TONGUE_Y = (-1.0, 16.0)


@dataclass(frozen=True)
class Plate:
    """A painted part. color: RGB uint8 (h, w, 3), already times its opacity; rest: uint8 (h, w, 3), what it lets through of 255.

    origin: mm position of its first pixel's centre; scale: pixels per mm.
    """

    color: ByteArray
    rest: ByteArray
    origin: tuple[float, float]
    scale: float

    def softened(self, pixels: float) -> Plate:
        """Blurred by so many of its pixels (standard deviation): for whoever draws it smaller, so that fine lines do not come and go as it moves."""
        color, rest = (np.asarray(cv2.GaussianBlur(values, (0, 0), pixels), np.uint8) for values in (self.color, self.rest))
        return replace(self, color=color, rest=rest)

    def to_arrays(self) -> dict[str, Array]:
        return {"color": self.color, "rest": self.rest, "place": np.array([*self.origin, self.scale])}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array]) -> Plate:
        x, y, scale = (float(value) for value in arrays["place"])
        return cls(arrays["color"], arrays["rest"], (x, y), scale)


PLATES = ("tongue", "lower", "upper")


def below(arrays: dict[str, Array], prefix: str) -> dict[str, Array]:
    """The arrays whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


@dataclass(frozen=True)
class MouthParts:
    """The four layers in the photograph's light. lip: RGB (3,); cavity: uint8 (256, 1, 3) from the upper to the lower lip."""

    lip: FloatArray
    cavity: Array
    tongue: Plate
    lower: Plate
    upper: Plate

    def softened(self, pixels: float) -> MouthParts:
        """All parts, as `Plate.softened`."""
        return replace(self, **{part: getattr(self, part).softened(pixels) for part in PLATES})

    def to_arrays(self) -> dict[str, Array]:
        plates = {f"{part}_{name}": array for part in PLATES for name, array in getattr(self, part).to_arrays().items()}
        return {"lip": self.lip, "cavity": self.cavity, **plates}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array]) -> MouthParts:
        return cls(arrays["lip"], arrays["cavity"], *(Plate.from_arrays(below(arrays, f"{part}_")) for part in PLATES))


def tooth_color(skin: FloatArray, eye_white: FloatArray | None) -> FloatArray:
    """RGB (3,) of a front tooth. skin: of a well lit cheek; eye_white: of the eyes' whites, None where they are not seen."""
    luma = np.array(LUMA_WEIGHTS)
    light = float(np.clip(TOOTH_LIGHT * (skin @ luma), *TOOTH_LIGHT_RANGE))
    hue = skin / skin.max()
    cast = np.ones(3) if eye_white is None else np.clip(eye_white / max(float(eye_white.max()), 1.0), *WHITE_RANGE)
    white = np.array(TOOTH_WHITE) * cast**EYE_SHARE * (1 - SKIN_SHARE) + hue * SKIN_SHARE
    tooth: FloatArray = (white * light / (white @ luma)).astype(np.float32)
    return tooth


def paint_mouth(tooth: FloatArray, lip: FloatArray, scale: float) -> MouthParts:
    """Paint the parts.

    Args:
        tooth, lip: RGB of a front tooth and of the lips' red (3,), 0..255.
        scale: pixels per mm that the parts are drawn at.
    """
    light = float(tooth @ np.array(LUMA_WEIGHTS))
    gain = light / USUAL_LIGHT
    gum = np.array(GUM) * gain
    ramp = np.linspace(0, 1, 256)[:, None] ** 2
    cavity = (np.array(CAVITY_TOP) * (1 - ramp) + np.array(CAVITY_FLOOR) * ramp) * gain
    return MouthParts(
        lip=lip,
        cavity=np.clip(cavity, 0, 255).astype(np.uint8)[:, None, :],
        tongue=_tongue(gain, scale),
        lower=_teeth(tooth * LOWER_BRIGHTNESS * np.array(LOWER_TINT), gum * LOWER_GUM_BRIGHTNESS, scale, upper=False),
        upper=_teeth(tooth, gum, scale, upper=True),
    )


def _canvas(y_range: tuple[float, float]) -> tuple[Array, Array]:
    x, y = np.meshgrid(*(np.arange(low + 0.5 / FINE, high, 1 / FINE) for low, high in (X_RANGE, y_range)))
    return x, y


def _plate(color: Array, alpha: Array, y_range: tuple[float, float], scale: float, blur_mm: float) -> Plate:
    rgba: Array = np.dstack([color * alpha[..., None], alpha * 255.0]).astype(np.float32)
    rgba = cv2.GaussianBlur(rgba, (0, 0), blur_mm * FINE)
    width, height = (round((high - low) * scale) for low, high in (X_RANGE, y_range))
    rgba = cv2.resize(rgba, (width, height), interpolation=cv2.INTER_AREA)
    true_scale = width / (X_RANGE[1] - X_RANGE[0])
    return plate_of(rgba, (X_RANGE[0] + 0.5 / true_scale, y_range[0] + 0.5 / true_scale), true_scale)


def plate_of(rgba: Array, origin: tuple[float, float], scale: float) -> Plate:
    """A plate from premultiplied RGBA (h, w, 4), 0..255."""
    pixels = np.clip(np.rint(rgba), 0, 255).astype(np.uint8)
    return Plate(np.ascontiguousarray(pixels[..., :3]), np.repeat(255 - pixels[..., 3:], 3, axis=2), origin, scale)


def _soft(distance: Array, width: float) -> Array:
    """1 inside (negative distance), 0 outside, over `width` mm."""
    return smoothstep(0.5 - distance / width)


def _teeth(tooth: Array, gum: Array, scale: float, *, upper: bool) -> Plate:
    y_range = UPPER_Y if upper else LOWER_Y
    x, y = _canvas(y_range)
    teeth, height = (UPPER_TEETH, UPPER_HEIGHT_MM) if upper else (LOWER_TEETH, LOWER_HEIGHT_MM)
    widths, lights, radii, steps = np.array([astuple(one) for one in teeth]).T
    bounds = np.concatenate([[0.0], np.cumsum(widths)])
    ax = np.abs(x)
    index = np.clip(np.searchsorted(bounds, ax, side="right") - 1, 0, len(widths) - 1)
    center = (bounds[:-1] + bounds[1:])[index] / 2
    half = widths[index] / 2
    across = np.clip((ax - center) / half, -1.2, 1.2)  # -1..1 over one tooth
    arch = ARCH * x**2
    if upper:
        edge = UPPER_EDGE_MM - arch + steps[index] * smoothstep((1.0 - np.abs(across)) * 4.0 + 0.3)
        inward = edge - y  # mm from the biting edge into the tooth
    else:
        inward = y - arch * LOWER_ARCH

    # a rounded corner at the biting edge; the mesial one (towards the middle) is sharper
    corner = radii[index] * np.where(across > 0, 1.0, 0.7)
    to_side = half * (1 - np.abs(across))
    in_corner = (to_side < corner) & (inward < corner)
    distance = np.where(in_corner, np.hypot(corner - to_side, corner - inward) - corner, -inward)
    alpha = _soft(distance, 0.3)
    inside = (ax < bounds[-1]).astype(float)
    fill = _soft(-inward + 0.5, 0.5) * 0.9  # behind the gaps between two teeth, so that no black bars show
    alpha = np.maximum(alpha, fill) * inside

    border = ramp(np.abs(across), 0.62, 0.38)
    shade = lights[index] * (1 - (BORDER_SHADE if upper else LOWER_BORDER_SHADE) * border)
    shade *= 1 - 0.06 * smoothstep(inward / height)  # towards the gum
    shade *= 1 + 0.05 * np.exp(-(((across + 0.15) / 0.45) ** 2) - ((inward - 0.45 * height) / 2.6) ** 2)  # a soft gleam
    translucent = 0.07 * _soft(inward - 0.5, 1.0)
    color = tooth * shade[..., None] * (1 - translucent[..., None] * np.array([1.2, 1.0, 0.7]))
    warm = smoothstep(inward / height)[..., None] * np.array([0.0, 0.025, 0.06])
    color = color * (1 - warm)

    gum_line = height - 1.1 * np.abs(across) ** 2.2 + 0.2
    gums = smoothstep((inward - gum_line) / 0.5)[..., None]
    gum_shade = 1 - 0.15 * border[..., None] * (inward < height + 2)[..., None]
    light = lights[index][..., None]
    color = color * (1 - gums) + gum * gum_shade * light * gums
    color = np.clip(color, 0, 255)
    if upper:
        shadow = ROW_SHADOW * np.exp(-((np.maximum(-inward, 0) / ROW_SHADOW_MM) ** 2)) * (1 - alpha)
        dark = np.array(CAVITY_TOP) * (tooth @ np.array(LUMA_WEIGHTS)) / USUAL_LIGHT
        whole = alpha + shadow
        color = (color * alpha[..., None] + dark * shadow[..., None]) / np.maximum(whole, 1e-3)[..., None]
        alpha = whole
    return _plate(color, alpha, y_range, scale, 0.1)


def _tongue(gain: float, scale: float) -> Plate:
    x, y = _canvas(TONGUE_Y)
    half_x, half_y = TONGUE_HALF_MM
    radius = np.hypot(x / half_x, np.minimum(y - half_y, 0.0) / half_y)
    alpha = _soft((radius - 0.92) * half_y, 1.6)
    groove = 1 - 0.26 * np.exp(-((x / 1.2) ** 2)) * smoothstep((y - 1.0) / 5)
    shade = groove * (0.72 + 0.28 * np.sqrt(np.clip(1 - (x / half_x) ** 2, 0, 1)))
    shade = shade * (0.45 + 0.55 * smoothstep(y / 6.0))  # its back lies in the dark
    gleam = np.zeros_like(x)
    for side, width, at, height in TONGUE_GLEAMS:
        gleam += np.exp(-(((x - side) / width) ** 2) - ((y - at) / height) ** 2)
    color = np.array(TONGUE) * gain * shade[..., None] + np.array(GLEAM) * gain * gleam[..., None]
    return _plate(np.clip(color, 0, 255), alpha, TONGUE_Y, scale, 0.25)

"""The teeth of a photograph that smiles with an open mouth, kept as a plate that is fixed to the skull."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from musetalk.animator.anatomy import Anatomy, Array, smoothstep
from musetalk.animator.colors import LUMA_WEIGHTS
from musetalk.animator.interior import CAVITY_TOP, Plate, plate_of
from musetalk.animator.lipline import OPEN_GAP_MM, LipLine
from musetalk.animator.sampling import sample

UPPER_OVERLAP_MM, LOWER_INSET_MM = 0.2, 0.25  # some of the upper lip comes along; the lower lip's wet rim stays out
EDGE_MM = 0.7  # over which the plate fades
MARGIN_MM = 3.5  # around the opening
# The photograph's lower lip hides where the teeth end: they go on as they are above the dark line on it, and cast a shadow.
CLEAR_MM, EXTENSION_MM = 0.6, 1.0
EXTENSION_SHADE = 0.18  # at its end
SHADOW, SHADOW_MM = 0.6, 1.3
TEETH_PERCENTILES = (60, 90)  # of the light in it: above its gaps and shadows, below its gleams


@dataclass(frozen=True)
class PhotoTeeth:
    """plate: the photographed teeth; lower_lip: the photographed lower lip below the mouth's middle, mm."""

    plate: Plate
    lower_lip: float

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        return {**self.plate.to_arrays(), "lower_lip": np.array([self.lower_lip])}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> PhotoTeeth:
        return cls(Plate.from_arrays(arrays), float(arrays["lower_lip"][0]))


def photographed_teeth(anatomy: Anatomy, line: LipLine, texture: Array, texture_scale: int) -> PhotoTeeth | None:
    """Cut the photographed interior out; None if the lips are closed. texture: RGB float32."""
    if not line.is_open:
        return None
    scale = anatomy.scale * texture_scale
    half = anatomy.half_width + MARGIN_MM
    across = np.linspace(-half, half, 101)
    top, bottom = float(line.upper(across).min()) - MARGIN_MM, float(line.lower(across).max()) + MARGIN_MM
    x = np.arange(-half, half, 1 / scale)
    y = np.arange(top, bottom, 1 / scale)
    grid_x, grid_y = np.meshgrid(x, y)
    end = line.lower(grid_x) - LOWER_INSET_MM
    at = anatomy.to_texture(np.stack([grid_x, np.minimum(grid_y, np.maximum(end - CLEAR_MM, line.mid(grid_x)))], -1), texture_scale)
    color = sample(texture, at.astype(np.float32), cubic=True)
    opening = line.opening(grid_x)
    extension = EXTENSION_MM * smoothstep(opening / OPEN_GAP_MM)
    inside = (grid_y - line.upper(grid_x) > -UPPER_OVERLAP_MM) & (end + extension - grid_y > 0)
    inside &= np.abs(grid_x) < anatomy.half_width
    soft = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), EDGE_MM / 2 * scale)
    alpha = smoothstep(soft)
    color = color * (1 - EXTENSION_SHADE * smoothstep((grid_y - end + CLEAR_MM) / (CLEAR_MM + EXTENSION_MM)))[..., None]
    shadow = SHADOW * np.exp(-((np.maximum(grid_y - end - extension, 0) / SHADOW_MM) ** 2)) * smoothstep(opening / OPEN_GAP_MM) * (1 - alpha)
    shadow *= grid_y > line.mid(grid_x)
    dark = np.array(CAVITY_TOP, np.float32)
    rgba = np.dstack([color * alpha[..., None] + dark * shadow[..., None], (alpha + shadow) * 255])
    middle, lower = (float(contour(np.zeros(1))[0]) for contour in (line.mid, line.lower))
    return PhotoTeeth(plate_of(rgba, (float(x[0]), float(y[0]) - middle), scale), lower - middle)


def color_of(teeth: PhotoTeeth) -> NDArray[np.float32]:
    """RGB (3,) of the photographed teeth, which those beside them share."""
    whole = teeth.plate.color[teeth.plate.rest[..., 0] < 8].astype(np.float32)
    luma = whole @ np.array(LUMA_WEIGHTS, np.float32)
    low, high = np.percentile(luma, TEETH_PERCENTILES)
    color: NDArray[np.float32] = np.median(whole[(luma >= low) & (luma <= high)], 0).astype(np.float32)
    return color

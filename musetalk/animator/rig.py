"""Everything about one portrait that drawing needs, made once: textures, fields on a coarse grid, contours, eyes and mouth parts.

A rig is read-only after it is built, so any number of threads may draw from it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from museserve.errors import ImageError
from museserve.messages import Box, ByteArray, FloatArray
from musetalk.animator.anatomy import Anatomy, Array, measure
from musetalk.animator.colors import LUMA_WEIGHTS, to_bytes, to_planes
from musetalk.animator.eyelids import Eye, build_eyes, trace_rims, white_of_eyes
from musetalk.animator.fields import SPEECH_FIELDS, FaceFields, Layer
from musetalk.animator.grid import RING, Region, grid_cell, lower_face_box, node_pixels, part_of, region_of, speech_box
from musetalk.animator.idle import IdleMotion, idle_motion, resting_smile
from musetalk.animator.interior import MouthParts, below, paint_mouth, tooth_color
from musetalk.animator.lipline import LipLine, find_lip_line
from musetalk.animator.relief import Relief, mouth_relief, smile_folds
from musetalk.animator.sampling import sample
from musetalk.animator.teeth import PhotoTeeth, color_of, photographed_teeth

VERSION = 6  # of rigs, and of what is drawn from them: raise it with any change that a viewer could see
TEXTURE_SCALE = 2  # texture pixels per output pixel: sub-pixel motion in a texture of output size makes sharpness pump
TEXTURE_BLUR = 0.45  # texture pixels; at 0.46 an encoded idle loop falls below 0.85 of the portrait's sharpness, at 0.38 it shimmers
CONTOUR_POINTS, RAY_POINTS = 61, 10  # of the lip line, and of what prolongs it on either side
RAY_REACH = 1.25  # of the jaw's half width
PLANES = ("luma", "chroma_u", "chroma_v")
SKULL_MM = 10.0  # from the lip line's middle to the other two points that tell how the head has moved

CHEEKS, CHEEK_MM, CHEEK_PERCENTILE = (50, 280), 8.0, 80  # landmarks; half a side of what is seen; where it is light
LIP_SAMPLE_MM, LIP_SAMPLE_DEPTH = 7.0, 0.35  # to either side of the middle; share of the lower lip's height
MOUTH_DETAIL = 3.0  # pixels of the painted mouth per output pixel
MOUTH_SOFTNESS = 0.25  # output pixels: as much as if each was drawn as the mean of four


@dataclass(frozen=True)
class Contours:
    """Points along the lip line and its rays. rest: (k, 2) pixels; moves: (idle + speech fields, k·2) pixels at weight 1."""

    rest: FloatArray
    moves: FloatArray


@dataclass(frozen=True)
class Rig:
    """See the module.

    luma: uint8 (2 size, 2 size), chroma_u, chroma_v: uint8 (size, size): the texture in I420's planes. landmarks: (478, 2) output pixels.
    cell: pixels of a grid cell. box: what speech can change. lower_box: the lower face inside it, where the lower layer is used.
    idle_upper: (IDLE_FIELDS, nodes·2) over the whole picture. upper, lower: (IDLE_FIELDS + SPEECH_FIELDS, nodes·2) in the two boxes;
    all in pixels at weight 1. outline: the two contours and `skull`, one after the other.
    """

    size: int
    landmarks: FloatArray
    luma: ByteArray
    chroma_u: ByteArray
    chroma_v: ByteArray
    anatomy: Anatomy
    line: LipLine
    cell: int
    box: Box
    lower_box: Box
    full: Region
    box_region: Region
    lower_region: Region
    idle_upper: FloatArray
    upper: FloatArray
    lower: FloatArray
    upper_contour: Contours
    lower_contour: Contours
    contour_s: FloatArray
    skull: Contours
    outline: Contours
    mouth: MouthParts
    teeth: PhotoTeeth | None
    relief: Relief
    folds: tuple[Relief, ...]
    eyes: tuple[Eye, ...]
    motion: IdleMotion

    @classmethod
    def build(cls, portrait: ByteArray, landmarks: FloatArray, size: int = 512, *, spectacles: bool = False) -> Rig:
        """Make the rig of a portrait.

        Args:
            portrait: RGB (p, p, 3), at best twice `size` or more.
            landmarks: (478, 3) pixel positions in that picture (column 2, depth, is not used).
            size: side of the output picture in pixels.
            spectacles: the person wears some: lids close behind their rims, or stay open where those cannot be traced.
        Raises:
            ImageError: the picture is not a square RGB one, or the landmarks do not show an upright face.
        """
        if portrait.ndim != 3 or portrait.shape[0] != portrait.shape[1] or portrait.shape[2] != 3 or portrait.dtype != np.uint8:
            raise ImageError(f"a portrait must be a square RGB picture of 8 bits, got {portrait.dtype} {portrait.shape}")
        if landmarks.ndim != 2 or landmarks.shape[0] != 478 or landmarks.shape[1] < 2 or not np.isfinite(landmarks).all():
            raise ImageError(f"478 finite landmarks are needed, got an array of shape {landmarks.shape}")
        points = (np.asarray(landmarks, np.float64)[:, :2] * (size / portrait.shape[0]) - 0.5).astype(np.float32)
        texture = _texture(portrait, size * TEXTURE_SCALE)
        luma, chroma = map(to_bytes, to_planes(texture))
        chroma_u, chroma_v = np.ascontiguousarray(chroma[..., 0]), np.ascontiguousarray(chroma[..., 1])
        anatomy = measure(points.astype(np.float64), size)
        line = find_lip_line(anatomy, luma, TEXTURE_SCALE)
        planes = {"luma": luma, "chroma_u": chroma_u, "chroma_v": chroma_v}
        eyes = build_eyes(anatomy, texture, TEXTURE_SCALE, spectacles=spectacles)
        teeth = photographed_teeth(anatomy, line, texture, TEXTURE_SCALE)
        skin, lip = _colors(anatomy, line, texture)
        tooth = tooth_color(skin, white_of_eyes(anatomy, texture, TEXTURE_SCALE)) if teeth is None else color_of(teeth)
        mouth = paint_mouth(tooth, lip, MOUTH_DETAIL * anatomy.scale).softened(MOUTH_SOFTNESS * MOUTH_DETAIL)
        if teeth is not None:
            teeth = replace(teeth, plate=teeth.plate.softened(MOUTH_SOFTNESS * TEXTURE_SCALE))
        return cls._assemble(anatomy, line, None, landmarks=points, **planes, mouth=mouth, eyes=eyes, teeth=teeth)

    @staticmethod
    def traces_rims(portrait: ByteArray, landmarks: FloatArray, size: int = 512) -> bool:
        """Whether `build` of a portrait with spectacles finds their rims, so that its eyes blink."""
        points = np.asarray(landmarks, np.float64)[:, :2] * (size / portrait.shape[0]) - 0.5
        return trace_rims(measure(points, size), _texture(portrait, size * TEXTURE_SCALE), TEXTURE_SCALE) is not None

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays to store; `from_arrays` rebuilds the rest."""
        line, box = self.line, self.box
        arrays: dict[str, NDArray[Any]] = {"size": np.array([self.size], np.int32)}
        arrays |= {name: getattr(self, name) for name in ("landmarks", *PLANES)}
        arrays["box"] = np.array([box.x, box.y, box.w, box.h], np.int32)
        arrays |= {"line_middle": line.middle, "line_slopes": line.slopes}
        arrays["line_gap"] = np.zeros(0) if line.gap is None else line.gap
        arrays |= {f"mouth_{name}": value for name, value in self.mouth.to_arrays().items()}
        for number, eye in enumerate(self.eyes):
            arrays |= {f"eye{number}_{name}": value for name, value in vars(eye).items()}
        if self.teeth is not None:
            arrays |= {f"teeth_{name}": value for name, value in self.teeth.to_arrays().items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Rig:
        """The inverse of `to_arrays`; the arrays may be read-only and are kept, not copied."""
        points, gap = arrays["landmarks"], arrays["line_gap"]
        anatomy = measure(points.astype(np.float64), int(arrays["size"][0]))
        line = LipLine(anatomy.half_width, arrays["line_middle"], arrays["line_slopes"], gap if len(gap) else None)
        planes = {name: arrays[name] for name in PLANES}
        eyes = tuple(Eye(**below(arrays, f"eye{number}_")) for number in (0, 1))
        mouth = MouthParts.from_arrays(below(arrays, "mouth_"))
        teeth = PhotoTeeth.from_arrays(below(arrays, "teeth_")) if "teeth_lower_lip" in arrays else None
        box = Box(*arrays["box"].tolist())
        return cls._assemble(anatomy, line, box, landmarks=points, **planes, mouth=mouth, eyes=eyes, teeth=teeth)

    @classmethod
    def _assemble(cls, anatomy: Anatomy, line: LipLine, box: Box | None, **stored: Any) -> Rig:
        """What is not stored is made. box: None = it is not known yet; stored: fields by name."""
        size = anatomy.size
        fields = FaceFields(anatomy, line)
        cell = grid_cell(size)
        count = size // cell + 2 * RING
        full = Region(0, 0, count, count)
        if box is None:
            box = speech_box(anatomy, line, fields, full, cell, size)
        lower_box = lower_face_box(anatomy, line, cell, box)
        box_region, lower_region = (region_of(rectangle, cell, count) for rectangle in (box, lower_box))

        def basis(region: Region, displacements: Callable[[Array, Layer], Array], layer: Layer) -> FloatArray:
            nodes = node_pixels(region, cell).reshape(-1, 2)
            return _pixels(anatomy, displacements(anatomy.to_mm(nodes), layer))

        idle_upper = basis(full, fields.idle, "upper")
        x = _contour_x(anatomy)
        upper, lower = (np.stack([x, contour(x)], -1) for contour in (line.upper, line.lower))

        def along(points_mm: Array, layer: Layer) -> Contours:
            moves = np.concatenate([fields.idle(points_mm, layer), fields.speech(points_mm, layer)])
            return Contours(anatomy.to_pixels(points_mm).astype(np.float32), _pixels(anatomy, moves))

        contours = along(upper, "upper"), along(lower, "lower"), _skull(anatomy, line, fields)
        outline = Contours(np.concatenate([part.rest for part in contours]), np.concatenate([part.moves for part in contours], axis=1))

        return cls(
            **stored,
            size=size,
            anatomy=anatomy,
            line=line,
            cell=cell,
            box=box,
            lower_box=lower_box,
            full=full,
            box_region=box_region,
            lower_region=lower_region,
            idle_upper=idle_upper,
            upper=np.concatenate([part_of(idle_upper, full, box_region), basis(box_region, fields.speech, "upper")]),
            lower=np.concatenate([basis(lower_region, kind, "lower") for kind in (fields.idle, fields.speech)]),
            upper_contour=contours[0],
            lower_contour=contours[1],
            contour_s=(x / anatomy.half_width).astype(np.float32),
            skull=contours[2],
            outline=outline,
            relief=mouth_relief(anatomy, line, TEXTURE_SCALE),
            folds=smile_folds(anatomy, line, stored["luma"], TEXTURE_SCALE),
            motion=idle_motion(zlib.crc32(stored["landmarks"].tobytes()), 0.0 if line.is_open else resting_smile(_corners_lifted(line))),
        )


def _texture(portrait: ByteArray, side: int) -> Array:
    how = cv2.INTER_AREA if portrait.shape[0] > side else cv2.INTER_CUBIC
    picture = portrait if portrait.shape[0] == side else cv2.resize(portrait, (side, side), interpolation=how)
    return cv2.GaussianBlur(picture.astype(np.float32), (0, 0), TEXTURE_BLUR)


def _colors(anatomy: Anatomy, line: LipLine, texture: Array) -> tuple[FloatArray, FloatArray]:
    """RGB (3,) of the cheeks where they are light, and of the lower lip's red."""
    samples = []
    for cheek in CHEEKS:
        center = (anatomy.landmarks[cheek] + 0.5) * TEXTURE_SCALE
        reach = CHEEK_MM * anatomy.scale * TEXTURE_SCALE
        (x0, y0), (x1, y1) = np.clip(center - reach, 0, None).astype(int), (center + reach).astype(int)
        samples.append(texture[y0:y1, x0:x1].reshape(-1, 3))
    skin = np.concatenate(samples)
    light = skin @ np.array(LUMA_WEIGHTS, np.float32)
    bright = skin[light >= np.percentile(light, CHEEK_PERCENTILE)]
    x = np.linspace(-LIP_SAMPLE_MM, LIP_SAMPLE_MM, 15)
    red = np.stack([x, line.lower(x) + LIP_SAMPLE_DEPTH * anatomy.lower_lip], -1)
    at = anatomy.to_texture(red, TEXTURE_SCALE)
    lip = np.median(sample(texture, at[None].astype(np.float32))[0], 0)
    return np.median(bright, 0).astype(np.float32), lip.astype(np.float32)


def _corners_lifted(line: LipLine) -> float:
    """mm."""
    left, middle, right = line.mid(np.array([-1.0, 0.0, 1.0]) * line.half_width)
    return float(middle - (left + right) / 2)


def _pixels(anatomy: Anatomy, fields: Array) -> FloatArray:
    """(fields, n, 2) in mm -> (fields, n·2) in pixels, contiguous."""
    pixels = anatomy.vectors(fields)
    return np.ascontiguousarray(pixels.reshape(len(pixels), -1), np.float32)


def _contour_x(anatomy: Anatomy) -> Array:
    """x in mm of the points along the lip line and its rays, denser towards the corners."""
    inside = np.sin(np.linspace(-np.pi / 2, np.pi / 2, CONTOUR_POINTS)) * anatomy.half_width
    ray = np.linspace(anatomy.half_width, RAY_REACH * anatomy.jaw_half, RAY_POINTS + 1)[1:]
    return np.concatenate([-ray[::-1], inside, ray])


def _skull(anatomy: Anatomy, line: LipLine, fields: FaceFields) -> Contours:
    """Three points that move with the head alone: the lip line's middle, `SKULL_MM` to its right and below."""
    points = np.array([[0.0, 0.0], [SKULL_MM, 0.0], [0.0, SKULL_MM]]) + [0.0, float(line.mid(np.zeros(1))[0])]
    speech = fields.speech(points, "upper")
    for number, name in enumerate(SPEECH_FIELDS):
        if name not in ("nod", "rise", "turn"):
            speech[number] = 0.0
    idle = fields.idle(points, "upper")
    idle[0] = 0.0  # the smile
    return Contours(anatomy.to_pixels(points).astype(np.float32), _pixels(anatomy, np.concatenate([idle, speech])))

"""Draws frames: idle ones, and the part of a talking frame that speech changes, each in one warp of the portrait.

Row of a talking frame: idle fields + speech fields on a coarse grid, inverted there, upsampled, and sampled once. Pixels above the
lips take the upper layer's map, pixels below the lower's; what opens between them is drawn last.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from museserve.messages import Box, ByteArray, FloatArray
from museserve.timebase import IDLE_FRAMES
from musetalk.animator.anatomy import Array, scalar_smoothstep
from musetalk.animator.colors import Planes
from musetalk.animator.fields import SPEECH_FIELDS
from musetalk.animator.gaze import texture_with_eyes
from musetalk.animator.grid import RING, Region
from musetalk.animator.idle import RESTING_SMILE, IdleMotion
from musetalk.animator.life import Lap
from musetalk.animator.mouth import Opening, draw_mouth
from musetalk.animator.relief import draw_relief
from musetalk.animator.rig import SKULL_MM, TEXTURE_SCALE, Contours, Rig
from musetalk.animator.sampling import Places, sample, sample_at, weighted_sum
from musetalk.speech_cues.controls import BROW_UP, CONTROLS, LOWER_DROP_MM, N_CONTROLS, UPPER_RAISE_MM

INVERSE_PASSES = 3
FULL_PUCKER = 0.75  # rounding at which the opening is a full ellipse
CORNER_GUARD, CORNER_GUARD_REACH = 0.7, 0.25  # cells down; share of the mouth's half width outwards
PUCKER_SHUTS, PUCKER_JAW = 0.75, 0.18  # beside its opening; from how far the jaw is open
ROUND_UNSMILES = 0.5  # share of the resting smile that full rounding takes away
JAW_UNSMILES, UNSMILING_JAW = 0.3, 0.25  # of a smile's corners, which a jaw that opens so far takes down
# A photograph with an open smile is already stretched: what is left of each control.
OPEN_JAW, OPEN_RAISE, OPEN_DROP, OPEN_WIDE, OPEN_WIDE_SHIFT = 0.85, 0.2, 0.35, 0.4, -0.6
OPEN_UNSMILES = 1.3  # of a smile's corners, while there is speech: people who talk do not go on laughing
UNSEAL, UNSEAL_MM = 0.45, 8.0  # speech that opens so far lets go of so much of the seal
PRESENCE_AT = 0.25  # of the seal, the jaw or the rounding: the painted interior is there in full


def i420_planes(picture: ByteArray) -> Planes:
    """Views into an I420 uint8 (h * 3 // 2, w)."""
    height, width = picture.shape[0] * 2 // 3, picture.shape[1]
    chroma = picture[height:].reshape(2, height // 2, width // 2)
    return Planes(picture[:height], chroma[0], chroma[1])


def idle_frame(rig: Rig, n: int) -> ByteArray:
    """Frame `n` of the idle loop (any whole number; it repeats every IDLE_FRAMES): I420 uint8 (size * 3 // 2, size)."""
    return _draw(rig, rig.motion, n, None)


def lap_frame(rig: Rig, lap: Lap, n: int) -> ByteArray:
    """Frame `n` of a lap, like `idle_frame`."""
    picture = _draw(rig, lap.motion, n, None)
    if lap.brows[n] > 0:  # they are raised as in speech, whose fields end inside its box
        row = np.zeros(N_CONTROLS, np.float32)
        row[BROW_UP] = lap.brows[n]
        _put(picture, _draw(rig, lap.motion, n, row), rig.box)
    return picture


def _put(picture: ByteArray, crop: ByteArray, box: Box) -> None:
    whole, part = i420_planes(picture), i420_planes(crop)
    whole.luma[box.y : box.y + box.h, box.x : box.x + box.w] = part.luma
    for plane, of_crop in ((whole.u, part.u), (whole.v, part.v)):
        plane[box.y // 2 : (box.y + box.h) // 2, box.x // 2 : (box.x + box.w) // 2] = of_crop


def idle_loop(rig: Rig) -> ByteArray:
    """All idle frames: uint8 (IDLE_FRAMES, size * 3 // 2, size)."""
    loop = np.empty((IDLE_FRAMES, rig.size * 3 // 2, rig.size), np.uint8)
    for n in range(IDLE_FRAMES):
        loop[n] = idle_frame(rig, n)
    return loop


def crop_i420(picture: ByteArray, box: Box) -> ByteArray:
    """Cut a box out of an I420 picture: uint8 (h * 3 // 2, w)."""
    planes = i420_planes(picture)
    x, y, w, h = box.x // 2, box.y // 2, box.w // 2, box.h // 2
    chroma = [plane[y : y + h, x : x + w].reshape(-1) for plane in (planes.u, planes.v)]
    luma = planes.luma[box.y : box.y + box.h, box.x : box.x + box.w].reshape(-1)
    return np.concatenate([luma, *chroma]).reshape(box.h * 3 // 2, box.w)


def render_crop(rig: Rig, n: int, row: FloatArray, out: ByteArray | None = None) -> ByteArray:
    """Frame `n` of the idle loop with speech on it, in `rig.box`: I420 uint8 (h * 3 // 2, w).

    Args:
        row: float32 (N_CONTROLS,). Zeros give the idle frame's own pixels.
        out: where it is drawn, C-contiguous; None = into a new array.
    """
    if row.shape != (N_CONTROLS,):
        raise ValueError(f"a row has {N_CONTROLS} controls, got shape {row.shape}")
    if row.any():
        return _draw(rig, rig.motion, n, row, out)
    idle = crop_i420(idle_frame(rig, n), rig.box)
    if out is None:
        return idle
    out[:] = idle
    return out


@dataclass(frozen=True)
class SpeechPose:
    """A row made fit for a rig. weights: (len(SPEECH_FIELDS),). jaw: mm that the chin is down. gaze: mm right and down.

    tongue, rounding: 0..1; presence: 0..1 of the painted interior; unsmiling: 0..1 of a photographed smile's folds that are gone.
    blink: 0..1, how far speech shuts the lids; awake: share of the idle blinks that it holds back.
    """

    weights: FloatArray
    jaw: float
    tongue: float
    rounding: float
    presence: float
    unsmiling: float
    gaze: tuple[float, float]
    blink: float
    awake: float


def fit_row(rig: Rig, row: FloatArray) -> SpeechPose:
    """What a row (N_CONTROLS,) does to this rig's face."""
    control = dict(zip(CONTROLS, row.tolist(), strict=True))
    jaw, drop, lift, wide = (control[name] for name in ("jaw", "lower_drop", "upper_raise", "wide"))
    close, smile, rounding = control["lip_close"], control["smile"], control["round"]
    open_jaw, seal, presence = max(jaw - close, 0.0), 0.0, 1.0
    smile -= JAW_UNSMILES * scalar_smoothstep(jaw / UNSMILING_JAW)
    if rig.line.is_open:
        opening = rig.anatomy.jaw_mm * open_jaw + LOWER_DROP_MM * drop + UPPER_RAISE_MM * lift
        seal = control["seal"] * (1 - UNSEAL * scalar_smoothstep(opening / UNSEAL_MM))
        jaw, close, open_jaw = OPEN_JAW * jaw, OPEN_JAW * close, OPEN_JAW * open_jaw
        lift, drop = OPEN_RAISE * lift, OPEN_DROP * drop
        wide = OPEN_WIDE * wide + OPEN_WIDE_SHIFT * control["seal"]
        smile -= OPEN_UNSMILES * control["seal"]
        presence = scalar_smoothstep(max(seal, jaw, rounding) / PRESENCE_AT)
    else:
        smile -= ROUND_UNSMILES * RESTING_SMILE * rounding
    pucker = scalar_smoothstep(rounding / FULL_PUCKER)
    # puckered lips are shut beside the opening: only the middle part of a drop or raise is left
    slit = 1 - PUCKER_SHUTS * pucker * scalar_smoothstep(open_jaw / PUCKER_JAW)
    fitted = {"jaw": jaw, "lower_drop": drop * slit, "upper_raise": lift * slit, "wide": wide, "smile": smile}
    fitted |= {"lip_close": close, "seal": seal, "pucker": open_jaw * pucker}
    weights = np.array([(control | fitted)[name] for name in SPEECH_FIELDS], np.float32)
    unsmiling = min(max(control["seal"], 0.0), 1.0)
    gaze, lids = (control["gaze_x"], control["gaze_y"]), (control["blink"], control["awake"])
    return SpeechPose(weights, rig.anatomy.jaw_mm * jaw, control["tongue"], min(max(rounding, 0.0), 1.0), presence, unsmiling, gaze, *lids)


def _draw(rig: Rig, motion: IdleMotion, n: int, row: FloatArray | None, out: ByteArray | None = None) -> ByteArray:
    n %= IDLE_FRAMES
    idle = motion.weights[n]
    if row is None:
        speech, box, region = None, Box(0, 0, rig.size, rig.size), rig.full
        weights = np.concatenate([idle, np.zeros(len(SPEECH_FIELDS), np.float32)])
        upper = _source_grid(rig, region, idle, rig.idle_upper)
    else:
        speech, box, region = fit_row(rig, row), rig.box, rig.box_region
        weights = np.concatenate([idle, speech.weights])
        upper = _source_grid(rig, region, weights, rig.upper)
    lower = _source_grid(rig, rig.lower_region, weights, rig.lower)
    outline, long = moved(rig.outline, weights), len(rig.upper_contour.rest)
    upper_lip, lower_lip, skull = outline[:long], outline[long : 2 * long], outline[2 * long :]

    gaze = motion.gaze[n]
    lid = float(motion.lids[n])
    if speech is not None:
        lid = max(lid * (1 - speech.awake), speech.blink)
    look = (float(gaze[0]), float(gaze[1])) if speech is None else (float(gaze[0]) + speech.gaze[0], float(gaze[1]) + speech.gaze[1])
    textures = texture_with_eyes(rig, lid, look)

    picture = np.empty((box.h * 3 // 2, box.w), np.uint8) if out is None else out
    planes = i420_planes(picture)
    lips = _lip_rows(rig, upper_lip, lower_lip)
    luma_map, chroma_map = _combined_maps(rig, box, upper, lower, lips)
    for texture, plane, places in zip(textures, planes, (luma_map, chroma_map, chroma_map), strict=True):
        sample_at(texture, *places, plane)
    if speech is not None:
        draw_relief(planes.luma, chroma_map, rig.relief, speech.rounding, box, rig.anatomy.scale, TEXTURE_SCALE)
        for fold in rig.folds:
            draw_relief(planes.luma, chroma_map, fold, speech.unsmiling, box, rig.anatomy.scale, TEXTURE_SCALE)
        _draw_mouth(rig, speech, box, planes, lips, skull)
    return picture


def moved(contour: Contours, weights: FloatArray) -> FloatArray:
    """(k, 2) pixels. weights: of the idle and the speech fields, as in `Contours.moves`."""
    points: FloatArray = contour.rest + weighted_sum(weights, contour.moves).reshape(-1, 2)
    return points


@dataclass(frozen=True)
class LipRows:
    """Where the moved lips are in each pixel column of `Rig.lower_box`: rows of the picture, and -1..1 between the corners, more beside them.

    left, right: columns of the picture at which the corners are.
    """

    above: Array
    below: Array
    s: Array
    left: float
    right: float


def _lip_rows(rig: Rig, upper: FloatArray, lower: FloatArray) -> LipRows:
    """upper, lower: the moved contours (k, 2)."""
    columns = np.arange(rig.lower_box.x, rig.lower_box.x + rig.lower_box.w, dtype=np.float64)
    above, s = (np.interp(columns, upper[:, 0], values) for values in (upper[:, 1], rig.contour_s))
    below = np.interp(columns, lower[:, 0], lower[:, 1])
    corners = upper[np.abs(rig.contour_s) <= 1.0001, 0]
    return LipRows(above, below, s, float(corners[0]), float(corners[-1]))


def _source_grid(rig: Rig, region: Region, weights: FloatArray, basis: FloatArray) -> Places:
    """Where each node's pixel comes from: x and y (ny, nx) in pixels of the texture's luma."""
    nodes = _node_indices(region.nx, region.ny)
    # the fields carry a node forward; the inverse is found by fixed-point passes q <- -field(node + q)
    back = weighted_sum(weights * np.float32(-1.0 / rig.cell), basis).reshape(region.ny, region.nx, 2)
    source: FloatArray = nodes + back
    for _ in range(INVERSE_PASSES - 1):
        source = sample(back, source)  # of so few nodes both at once
        source += nodes
    # a node is the middle of its cell, and so is a pixel of the pixels of the texture that it stands for
    cell = rig.cell * TEXTURE_SCALE
    source *= np.float32(cell)
    x, y = (np.asarray(axis, np.float32) for axis in cv2.split(source))
    x += np.float32((region.x0 - RING) * cell + (cell - 1) / 2)
    y += np.float32((region.y0 - RING) * cell + (cell - 1) / 2)
    return x, y


@cache
def _node_indices(nx: int, ny: int) -> FloatArray:
    return np.stack(np.meshgrid(np.arange(nx), np.arange(ny)), -1).astype(np.float32)


def _upsample(axis: FloatArray, factor: int, rows: slice, columns: slice) -> FloatArray:
    """x or y at nodes -> at pixels, `factor` a cell. rows, columns: whole cells wanted, counted from the grid's first node."""
    part = axis[rows.start - 1 : rows.stop + 1, columns.start - 1 : columns.stop + 1]
    pixels: Array = cv2.resize(part, (part.shape[1] * factor, part.shape[0] * factor), interpolation=cv2.INTER_LINEAR)
    inner: FloatArray = pixels[factor : (part.shape[0] - 1) * factor, factor : (part.shape[1] - 1) * factor]
    return inner


def _combined_maps(rig: Rig, box: Box, upper: Places, lower: Places, lips: LipRows) -> tuple[Places, Places]:
    """Where the pixels of luma and of chroma come from in the texture: the upper layer's map, with the lower layer's below the lips."""
    cell, part = rig.cell, rig.lower_box
    # Beside a corner the grid smears the lower layer's opening over one cell: there the upper layer, which is smooth, goes a little further down.
    beside = np.abs(lips.s) - 1
    guard = CORNER_GUARD * cell * np.maximum(1 - np.maximum(beside, 0) / CORNER_GUARD_REACH, 0) * (beside > -0.01)
    split = (lips.above + lips.below) / 2 + guard
    top_cell = min(max(int(split.min()) // cell, part.y // cell), (part.y + part.h) // cell - 1)
    first, skipped = top_cell * cell, top_cell - part.y // cell
    height, left, top = part.y + part.h - first, part.x - box.x, first - box.y
    band = min(max(int(np.ceil(split.max())) + 1 - first, 0), height)
    mask = (np.arange(first, first + band)[:, None] > split).view(np.uint8)

    luma, chroma = [], []
    for of_upper, of_lower in zip(upper, lower, strict=True):
        whole = _upsample(of_upper, cell, slice(RING, RING + box.h // cell), slice(RING, RING + box.w // cell))
        fine = _upsample(of_lower, cell, slice(RING + skipped, RING + part.h // cell), slice(RING, RING + part.w // cell))
        target = whole[top : top + height, left : left + part.w]
        if band:
            cv2.copyTo(fine[:band], mask, target[:band])
        target[band:] = fine[band:]
        luma.append(whole)
        # A sample of chroma is the middle of four pixels, in a texture of half the size.
        half = np.asarray(cv2.resize(whole, (box.w // 2, box.h // 2), interpolation=cv2.INTER_AREA), np.float32)
        half *= np.float32(0.5)
        half -= np.float32(0.25)
        chroma.append(half)
    return (luma[0], luma[1]), (chroma[0], chroma[1])


def _draw_mouth(rig: Rig, speech: SpeechPose, box: Box, planes: Planes, lips: LipRows, skull: FloatArray) -> None:
    corner = np.array([box.x, box.y], np.float32)
    start = rig.lower_box.x
    first, last = max(int(np.floor(lips.left)), start), min(int(np.ceil(lips.right)), start + rig.lower_box.w - 1)
    part = slice(first - start, last + 1 - start)
    middle, right, low = (skull - corner).tolist()
    affine = [[(a - c) / SKULL_MM, (b - c) / SKULL_MM, c] for a, b, c in zip(right, low, middle, strict=True)]
    mouth = Opening(
        columns=np.arange(first - box.x, last + 1 - box.x, dtype=np.float32),
        upper=(lips.above[part] - box.y).astype(np.float32),
        lower=(lips.below[part] - box.y).astype(np.float32),
        s=np.clip(lips.s[part], -1, 1).astype(np.float32),
        scale=rig.anatomy.scale,
        jaw=speech.jaw,
        tongue=speech.tongue,
        rounding=speech.rounding,
        presence=speech.presence,
        skull=affine,
    )
    draw_mouth(planes, mouth, rig.mouth, rig.teeth)

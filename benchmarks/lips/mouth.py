"""Whether the mouth does what the engine meant, meets for p, b and m, and rests in silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from museserve.messages import FloatArray, Phoneme
from museserve.timebase import SPEECH_RATE
from musetalk.animator.fields import IDLE_FIELDS
from musetalk.animator.render import fit_row
from musetalk.animator.rig import Rig

Curve = NDArray[np.float64]

MIDDLE = 0.35  # share of the mouth's half width: where the landmarks of the inner lips lie
CLOSED = frozenset("pbm")
EARLY_S, LATE_S = 0.07, 0.05  # a closure may be this much before its label, or after


@dataclass(frozen=True)
class Closure:
    """One p, b or m. `opening`: smallest gap while it lasts, above rest, as a share of the speaking range; 0 = as shut as in silence."""

    symbol: str
    second: float
    opening: float


def intended_gap(rig: Rig, rows: FloatArray) -> Curve:
    """Conditioning rows (n, controls) -> the gap they ask for on this face (n,), mm; a smile with teeth has one of its own, until sealed."""
    weights = np.array([fit_row(rig, row).weights for row in rows], np.float64)
    opens = (rig.lower_contour.moves - rig.upper_contour.moves)[len(IDLE_FIELDS) :]
    apart = (weights @ opens).reshape(len(rows), -1, 2) + (rig.lower_contour.rest - rig.upper_contour.rest)
    down = (apart @ rig.anatomy.axes[1]) / rig.anatomy.scale
    return np.maximum(down[:, np.abs(rig.contour_s) <= MIDDLE].mean(axis=1), 0.0)


def agreement(measured: Curve, intended: Curve, max_lag: int = 5) -> tuple[float, int]:
    """Pearson's r of two curves and the whole-frame lag at which it is highest; positive = `measured` comes late. r is that at lag 0."""
    found = {}
    for lag in range(-max_lag, max_lag + 1):
        first, last = max(lag, 0), min(len(intended) + lag, len(measured))
        a, b = measured[first:last], intended[first - lag : last - lag]
        known = np.isfinite(a) & np.isfinite(b)
        found[lag] = float(np.corrcoef(a[known], b[known])[0, 1])
    return found[0], max(found, key=lambda lag: found[lag])


def closures(times: Curve, gap: Curve, phonemes: Sequence[Phoneme], rest: float, speaking: NDArray[np.bool_]) -> list[Closure]:
    """How far every p, b and m leaves the lips apart.

    Args:
        times, gap: (n,) seconds and gaps of the frames.
        rest: the gap of shut lips.
        speaking: (n,) frames from which the speaking range is taken.
    """
    span = float(np.nanpercentile(gap[speaking], 98)) - rest
    found = []
    for phoneme in phonemes:
        if phoneme.symbol in CLOSED:
            start, end = phoneme.start / SPEECH_RATE, phoneme.end / SPEECH_RATE
            shown = (times >= start - EARLY_S) & (times <= end + LATE_S) & np.isfinite(gap)
            if shown.any():
                found.append(Closure(phoneme.symbol, (start + end) / 2, (float(gap[shown].min()) - rest) / span))
    return found


def silence_motion(gap: Curve, silent: NDArray[np.bool_], speaking: NDArray[np.bool_]) -> float:
    """Mean change of the gap from frame to frame in silence, over that in speech; NaN when either is too short to say."""
    change = np.abs(np.diff(gap, prepend=gap[:1]))
    if np.count_nonzero(silent) < 6 or np.count_nonzero(speaking) < 6:
        return float("nan")
    return float(np.nanmean(change[silent]) / max(float(np.nanmean(change[speaking])), 1e-9))

"""What counts as good enough: one row for each measure, with the limits that a kind of case has of its own."""

from __future__ import annotations

from dataclasses import dataclass, field

INFINITE = float("inf")


@dataclass(frozen=True)
class Bar:
    """Accepted from `low` to `high`. only: kinds of case it applies to, empty = all. own: limits of a kind that differ."""

    key: str
    title: str
    unit: str = ""
    low: float = -INFINITE
    high: float = INFINITE
    digits: int = 2
    only: frozenset[str] = frozenset()
    own: dict[str, tuple[float, float]] = field(default_factory=dict)

    def limits(self, kinds: frozenset[str]) -> tuple[float, float] | None:
        """Limits for a case of these kinds; None when the bar does not apply."""
        if self.only and not self.only & kinds:
            return None
        return next((limits for kind, limits in self.own.items() if kind in kinds), (self.low, self.high))

    def accept(self, limits: tuple[float, float]) -> str:
        low, high = limits
        if low == high:
            text = f"{high:g}"
        elif low == -INFINITE:
            text = f"<= {high:g}"
        elif high == INFINITE:
            text = f">= {low:g}"
        else:
            text = f"{low:g} .. {high:g}"
        return f"{text} {self.unit}".rstrip()


def _only(*kinds: str) -> frozenset[str]:
    return frozenset(kinds)


# Kinds: "film" any utterance, "phonemes" / "sound" by what drives the lips, "smile" a portrait that shows its teeth, "avatar" measured once
# for an avatar, "long" the five-minute utterance.
BARS = (
    Bar("face_found", "frames with a face", "%", low=100, high=100, only=_only("film")),
    Bar("gap_r", "r(measured gap, intended gap)", low=0.95, digits=3, only=_only("film")),
    Bar("gap_lag", "lag of the measured gap", "frames", low=0, high=0, digits=0, only=_only("film")),
    Bar("jaw_r", "r(jawOpen score, jaw)", low=0.90, digits=3, only=_only("film"), own={"smile": (0.80, INFINITE)}),
    Bar("av_offset", "A/V offset (+ = sound late)", "ms", low=-20, high=60, digits=1, only=_only("film")),
    Bar("envelope_r", "lips against loudness, r", low=0.40, only=_only("film"), own={"sound": (0.60, INFINITE)}),
    Bar("closure_worst", "widest of the p, b, m", "% of range", high=15, digits=1, only=_only("phonemes")),
    Bar("closures_open", "p, b, m that do not close", "", high=0, digits=0, only=_only("phonemes")),
    Bar("silence_motion", "lip motion in silence / in speech", high=0.10, only=_only("film"), own={"smile": (-INFINITE, 0.25)}),
    Bar("jitter", "jitter, median", "% of eye span", high=0.5, only=_only("film")),
    Bar("jitter_p95", "jitter, 95th percentile", "% of eye span", high=1.3, only=_only("film")),
    Bar("jump", "largest one-frame jump", "% of eye span", high=3, only=_only("film")),
    Bar("head_range", "head range", "% of eye span", low=4, high=12, digits=1, only=_only("film")),
    Bar("blinks", "blinks a minute", "", low=8, high=30, digits=1, only=_only("film")),
    Bar("freeze", "longest freeze while speaking", "s", high=0.3, only=_only("film")),
    Bar("start_offset", "sound starts after picture", "ms", low=-5, high=5, digits=1, only=_only("film", "long")),
    Bar("duration_difference", "sound longer than picture", "ms", low=-40, high=40, digits=1, only=_only("film", "long")),
    Bar("still_jitter", "jitter, head held still", "% of eye span", high=0.35, only=_only("avatar")),
    Bar("lower_face_seam", "difference round the lower-face box", "levels", high=1, digits=0, only=_only("avatar")),
    Bar("crop_seam", "difference round the pasted box", "levels", high=1, digits=0, only=_only("avatar")),
    Bar("tear", "layers apart beside the lips", "px", high=0.3, only=_only("avatar")),
    Bar("sharpness", "sharpness against the portrait", low=0.85, only=_only("avatar")),
    Bar("sharpness_sd", "... its standard deviation", high=0.07, digits=3, only=_only("avatar")),
    Bar("av_drift", "A/V offset, last minute - first", "ms", low=-20, high=20, digits=1, only=_only("long")),
    Bar("sound_drift", "sound against its source, last - first", "ms", low=-1, high=1, only=_only("long")),
    Bar("frame_clock", "frame furthest from its place", "ms", high=1, only=_only("long")),
)

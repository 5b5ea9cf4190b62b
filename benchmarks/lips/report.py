"""Measures against their bars, as a table for people and as plain values for a file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.lips.bars import BARS, Bar


@dataclass(frozen=True)
class Verdict:
    """One measure of one case against its bar. limits: lowest and highest accepted value."""

    case: str
    bar: Bar
    value: float
    limits: tuple[float, float]

    @property
    def passed(self) -> bool:
        """A value that is not a number does not pass."""
        return bool(self.limits[0] <= self.value <= self.limits[1])

    @property
    def margin(self) -> float:
        """How far inside its limits the value lies; negative outside, lowest when it is not a number."""
        return -math.inf if math.isnan(self.value) else min(self.value - self.limits[0], self.limits[1] - self.value)

    @property
    def accept(self) -> str:
        return self.bar.accept(self.limits)

    def to_json(self) -> dict[str, Any]:
        return {
            "case": self.case,
            "measure": self.bar.key,
            "value": None if math.isnan(self.value) else round(self.value, 4),
            "accept": self.accept,
            "passed": self.passed,
        }


def verdicts(case: str, measures: Mapping[str, float], kinds: frozenset[str]) -> list[Verdict]:
    """Every measure of a case that has a bar for these kinds of case."""
    found = []
    for bar in BARS:
        limits = bar.limits(kinds)
        if limits is not None and bar.key in measures:
            found.append(Verdict(case, bar, measures[bar.key], limits))
    return found


def table(found: Sequence[Verdict]) -> str:
    """One line a bar with the value that is nearest to failing, or furthest beyond; then every failure."""
    lines = [f"{'measure':<38} {'worst':>8}  {'accepted':<24} {'of':<14}", "-" * 94]
    for bar in BARS:
        own = [verdict for verdict in found if verdict.bar is bar]
        if own:
            worst = min(own, key=lambda verdict: verdict.margin)
            passed = "PASS" if worst.passed else "FAIL"
            lines.append(f"{bar.title:<38} {worst.value:>8.{bar.digits}f}  {worst.accept:<24} {worst.case:<14} {passed}")
    failed = [verdict for verdict in found if not verdict.passed]
    lines += ["", f"{len(found) - len(failed)} of {len(found)} measures are met"]
    lines += [f"FAIL  {v.case:<14} {v.bar.title:<38} {v.value:>8.{v.bar.digits}f}  accepted {v.accept}" for v in failed]
    return "\n".join(lines)

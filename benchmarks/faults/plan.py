"""What goes wrong when: made from a seed alone, so that a finding can be had again."""

from __future__ import annotations

import random
from dataclasses import dataclass

DEPLOYMENTS = ("Ingress", "Mux", "TTS", "LipSync", "FacePrep")
# What may happen, and how often beside the others.
KINDS = {
    **{f"kill {name}": 2 for name in DEPLOYMENTS},
    **{f"freeze {name}": 1 for name in DEPLOYMENTS},
    "store slow": 2,
    "store absent": 2,
    "store silent": 1,
    "store failing": 2,
    "store full": 2,
    "disk full": 2,
    "corrupt cache": 2,
    "corrupt copy": 2,
    "reader that does not read": 2,
    "bodies half sent": 2,
    "sessions dropped": 2,
}
QUIET_S = 45.0  # at the beginning, so that there is something to compare with
KILLING = 2 / 3  # of the time: afterwards nothing is killed, so that what lives on tells by its growth whether it leaks


@dataclass(frozen=True)
class Fault:
    """kind: of KINDS; at_s: since the beginning; for_s: how long it lasts, where it lasts; dice: what else about it is chance."""

    kind: str
    at_s: float
    for_s: float
    dice: int


def plan(seed: int, minutes: float, every_s: float, kinds: dict[str, int] | None = None) -> list[Fault]:
    """Faults at random times, `every_s` apart on average, none in the first and last `QUIET_S`, and no kills in the last third
    where there is anything else. The same for the same arguments."""
    dice, faults, at = random.Random(seed), [], QUIET_S
    weights = KINDS if kinds is None else kinds
    mild = {kind: weight for kind, weight in weights.items() if not kind.startswith("kill ")} or weights
    while (at := at + dice.expovariate(1 / every_s)) < minutes * 60 - QUIET_S:
        now = weights if at < minutes * 60 * KILLING else mild
        kind = dice.choices(list(now), list(now.values()))[0]
        faults.append(Fault(kind, round(at, 2), round(dice.uniform(1.0, 8.0), 2), dice.randrange(2**32)))
    return faults

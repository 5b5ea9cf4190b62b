"""What clients saw in a stretch of time, as figures, a page and a plot."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.load.judge import Played
from benchmarks.service import percentile
from museserve.timebase import FPS

ENDS = ("whole", "interrupted", "refused", "failed", "cut", "untyped")


def figures(played: Sequence[Played]) -> dict[str, Any]:
    """Sums over utterances that are over; of those that only began there is nothing to say."""
    over = [each for each in played if each.end]
    first = sorted(each.first_s * 1e3 for each in over if each.first_s is not None)
    in_hand = [each.least_in_hand_s for each in over if each.least_in_hand_s is not None]
    ends = Counter(each.end for each in over)
    judged = Counter(name for each in over for name in each.judged)
    return {
        "utterances": len(over),
        "played_s": round(sum(each.frames for each in over) / FPS, 1),
        "underruns": sum(len(each.late) for each in over),
        "stalled_s": round(sum(sum(each.late) for each in over), 2),
        "least_in_hand_s": round(min(in_hand), 2) if in_hand else None,
        "largest_gap_s": round(max((each.largest_gap_s for each in over), default=0.0), 2),
        "first_fragment_ms": {"p50": percentile(first, 50), "p95": percentile(first, 95), "max": round(first[-1], 1)} if first else None,
        **{name: ends[name] for name in ENDS},
        "delayed": sum(each.delayed > 0 for each in over),
        "order_faults": sum(len(each.order) for each in over),
        "foreign_sound": sum(bool(each.sound) for each in over),
        "foreign_pictures": sum(bool(each.picture) for each in over),
        "judged_sounds": judged["sound"],
        "judged_pictures": judged["picture"],
        "codes": dict(Counter(each.code for each in over if each.code)),
        "what": sorted({each.sound or each.picture or next(iter(each.order), "") or each.said for each in over if faulty(each)})[:20],
    }


def faulty(played: Played) -> bool:
    return bool(played.order or played.sound or played.picture or played.end in ("cut", "untyped", "failed"))


def broken(found: dict[str, Any], first_ms: float) -> list[str]:
    """The objectives that these figures do not meet."""
    wrong = [
        f"{found[name]} {name}"
        for name in ("underruns", "order_faults", "foreign_sound", "foreign_pictures", "cut", "untyped", "failed")
        if found[name]
    ]
    if found["refused"] or found["delayed"]:
        wrong.append(f"{found['refused']} refused, {found['delayed']} delayed")
    if found["first_fragment_ms"] is not None and found["first_fragment_ms"]["p95"] > first_ms:
        wrong.append(f"first fragment p95 {found['first_fragment_ms']['p95']:.0f} ms")
    return wrong


COLUMNS = (
    "clients",
    "minutes",
    "utterances",
    "underruns",
    "least in hand s",
    "first fragment p50 / p95 ms",
    "refused / delayed",
    "failed / cut",
    "marks wrong / judged",
    "cores service / clients",
)


def page(results: dict[str, Any]) -> str:
    """Markdown: a table with a row for each step, the long run and the step above it."""
    named = [("", step) for step in results["steps"]]
    named += [(name, results[key]) for name, key in (("long run: ", "soak"), ("one step above: ", "above")) if key in results]
    faults = dict.fromkeys(f"- {what}" for _, step in named for what in step["what"])
    lines = [
        f"# Load: {results['clients']} on {results['machine']['cores']} cores",
        "",
        f"Highest number without a fault: **{results['most']}**.",
        f"Objective: no underrun, nothing refused, first fragment p95 below {results['first_ms']:g} ms.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
        *(f"| {name}{' | '.join(_row(step))} |" for name, step in named),
        *(["", "Seen:", "", *faults] if faults else []),
    ]
    return "\n".join(lines) + "\n"


def _row(step: dict[str, Any]) -> list[str]:
    first = step["first_fragment_ms"] or {"p50": "-", "p95": "-"}
    wrong, judged = step["foreign_sound"] + step["foreign_pictures"], step["judged_sounds"] + step["judged_pictures"]
    return [
        f"{step['n']}",
        f"{step['minutes']:g}",
        f"{step['utterances']}",
        f"{step['underruns']}",
        f"{step['least_in_hand_s']}",
        f"{first['p50']} / {first['p95']}",
        f"{step['refused']} / {step['delayed']}",
        f"{step['failed'] + step['untyped']} / {step['cut']}",
        f"{wrong} / {judged}",
        f"{'-' if step['cores_service'] is None else step['cores_service']} / {step['cores_clients']}",
    ]


def plot(results: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    steps = [step for step in results["steps"] if step["first_fragment_ms"]]
    n = [step["n"] for step in steps]
    figure, ((first, hand), (faults, cores)) = pyplot.subplots(2, 2, figsize=(10, 6), sharex=True, constrained_layout=True)
    for p in ("p50", "p95"):
        first.plot(n, [step["first_fragment_ms"][p] for step in steps], marker="o", label=p)
    first.set(title="First fragment", ylabel="ms", ylim=(0, None))
    first.legend()
    hand.plot(n, [step["least_in_hand_s"] for step in steps], marker="o")
    hand.axhline(0, color="grey", linewidth=0.8)
    hand.set(title="Least in hand before a fragment was due", ylabel="s")
    for name in ("underruns", "refused", "delayed"):
        faults.plot(n, [step[name] for step in steps], marker="o", label=name)
    faults.set(title="Underruns, refusals", xlabel="clients", ylim=(0, None))
    faults.legend()
    for name in ("cores_service", "cores_clients"):
        if all(step[name] is not None for step in steps):
            cores.plot(n, [step[name] for step in steps], marker="o", label=name.removeprefix("cores_"))
    cores.set(title="Cores used", xlabel="clients", ylim=(0, None))
    cores.legend()
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def write(results: dict[str, Any], out: Path) -> None:
    """out: the JSON; the page and the plot lie beside it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    out.with_suffix(".md").write_text(page(results))
    plot(results, out.with_suffix(".png"))

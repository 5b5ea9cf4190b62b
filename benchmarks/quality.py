"""Films utterances and judges them: `python -m benchmarks.quality [--quick] [--only ID ...] [--keep DIR]`.

Prints every measure with what is accepted and writes them as JSON; exit status 1 when one is not met.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2

from benchmarks.lips.cases import CASES, LONG, PHOTO, QUICK, Case
from benchmarks.lips.judge import Judge, Measures
from benchmarks.lips.report import Verdict, table, verdicts
from benchmarks.lips.stage import FilmSet

RESULTS = Path(__file__).parent / "results" / "quality.json"


def measure(cases: Sequence[Case], long: Case | None, folder: Path) -> tuple[list[Verdict], dict[str, Any]]:
    """Film and judge. Films and avatars land in `folder`; the second value is the whole result, JSON-able."""
    film_set = FilmSet(folder)
    if any(case.avatar == PHOTO for case in cases):
        film_set.add_photograph()
    judge = Judge(film_set)
    found: list[Verdict] = []
    measured: dict[str, Measures] = {}

    def note(name: str, measures: Measures, kinds: frozenset[str], began: float) -> None:
        own = verdicts(name, measures, kinds)
        measured[name] = {key: round(value, 4) for key, value in measures.items()}
        found.extend(own)
        failed = [verdict.bar.key for verdict in own if not verdict.passed]
        print(f"{name:<18} {time.perf_counter() - began:5.1f} s  {', '.join(failed) or 'all met'}", file=sys.stderr, flush=True)

    try:
        seen: set[str] = set()
        for case in cases:
            began = time.perf_counter()
            take = film_set.film(case)
            note(case.id, judge.utterance(case, take), judge.kinds(case), began)
            if case.avatar not in seen and not case.sound_only:
                seen.add(case.avatar)
                note(case.avatar, judge.avatar(case, take), frozenset({"avatar"}), time.perf_counter())
        if long is not None:
            began = time.perf_counter()
            note(long.id, judge.long(film_set.film(long)), frozenset({"long"}), began)
    finally:
        judge.close()
    engine = film_set.local.engine.info
    result = {
        "passed": all(verdict.passed for verdict in found),
        "engine": {"name": engine.name, "version": engine.version, **engine.details},
        "verdicts": [verdict.to_json() for verdict in found],
        "measured": measured,
        "left_open": {
            name: [{"sound": c.symbol, "second": round(c.second, 2), "opening": round(c.opening, 3)} for c in own]
            for name, own in judge.left_open.items()
            if own
        },
    }
    return found, result


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description="Films utterances and judges lips, motion and timing.")
    parser.add_argument("--quick", action="store_true", help="three utterances instead of all, and no five-minute one")
    parser.add_argument("--only", nargs="+", metavar="ID", help=f"these cases: {', '.join(case.id for case in (*CASES, LONG))}")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep films and avatars there")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE", help="where the result is written")
    options = parser.parse_args(arguments)
    wanted = options.only or (QUICK if options.quick else [case.id for case in (*CASES, LONG)])
    if unknown := set(wanted) - {case.id for case in (*CASES, LONG)}:
        parser.error(f"no case {', '.join(sorted(unknown))}")

    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found, result = measure([case for case in CASES if case.id in wanted], LONG if LONG.id in wanted else None, folder)
    print(table(found))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"written to {options.json}")
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())

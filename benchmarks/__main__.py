"""Every benchmark that judges the product, one after the other: the service, `say`, the encoder, the animator, a frame's steps, the lips, the player,
the page, live sessions, moving to another replica.

    python -m benchmarks [--quick]

Each prints its figures and writes JSON to benchmarks/results/; the whole fails if one does.
"""

from __future__ import annotations

import subprocess
import sys

FULL = (
    ("service",),
    ("encoder", "--json", "benchmarks/results/encoder.json"),
    ("animator_render", "--json", "benchmarks/results/animator_render.json"),
    ("frame", "--json", "benchmarks/results/frame.json"),
    ("lip_drive",),
    ("player",),
    ("page_load", "--mbit", "1", "--latency", "300", "--question"),
    ("sessions",),
    ("moving",),
    ("quality",),
)
QUICK = (("service", "latency", "graph"), ("quality", "--quick"))


def main() -> int:
    failed = []
    for name, *options in QUICK if "--quick" in sys.argv[1:] else FULL:
        print(f"\n== {name} {' '.join(options)}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

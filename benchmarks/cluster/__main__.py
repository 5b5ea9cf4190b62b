"""A cluster of several nodes on one machine, under load. Prints figures and writes JSON. Needs root; see `nodes`.

python -m benchmarks.cluster kills [NAME ...]
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.cluster.kills import LOSSES, kills, table
from benchmarks.cluster.nodes import missing
from benchmarks.cluster.redeploy import redeploy
from benchmarks.cluster.scale import scale
from benchmarks.cluster.traffic import traffic

RESULTS = Path(__file__).resolve().parents[1] / "results"
IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "scale", "redeploy", "bytes"])
    parser.add_argument("names", nargs="*", help="of kills: which; all by default")
    args = parser.parse_args()
    if unknown := set(args.names) - set(LOSSES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(LOSSES)}")
    if why := missing():
        print(f"no cluster can be made here: {why}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the nodes are taken down as after any other end
    path = RESULTS / f"cluster_{args.what}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for name, seen in measured(args.what, args.names or list(LOSSES)):
        print(name, json.dumps(seen), flush=True)
        found[name] = seen
        path.write_text(json.dumps(found, indent=1) + "\n")
    if args.what == "kills":
        print(table(found))
    return 0


def measured(what: str, names: list[str]) -> Iterable[tuple[str, Any]]:
    if what == "kills":
        return kills(names)
    if what == "bytes":
        return traffic()
    return (redeploy() if what == "redeploy" else scale(IMAGES / "cluster_scale.png")).items()


if __name__ == "__main__":
    sys.exit(main())

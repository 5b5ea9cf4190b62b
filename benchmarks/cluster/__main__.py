"""A cluster of several nodes on one machine, under load. Prints figures and writes JSON. Needs root; see `nodes`.

python -m benchmarks.cluster kills [NAME ...]
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

from benchmarks.cluster.nodes import missing

RESULTS = Path(__file__).resolve().parents[1] / "results"
IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "scale", "redeploy", "bytes"])
    parser.add_argument("names", nargs="*", help="of kills: which; all by default")
    args = parser.parse_args()
    if why := missing():
        print(f"no cluster can be made here: {why}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the nodes are taken down as after any other end
    found: dict[str, Any] = {}
    if args.what == "kills":
        from benchmarks.cluster.kills import LOSSES, kills, table

        if unknown := set(args.names) - set(LOSSES):
            parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(LOSSES)}")
        found = kills(args.names or LOSSES)
        print(table(found))
    elif args.what == "scale":
        from benchmarks.cluster.scale import scale

        found = scale(IMAGES / "cluster_scale.png")
    elif args.what == "redeploy":
        from benchmarks.cluster.redeploy import redeploy

        found = redeploy()
    else:
        from benchmarks.cluster.traffic import traffic

        found = traffic()
    print(json.dumps(found, indent=1))
    path = RESULTS / f"cluster_{args.what}.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**before, **found}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The project's own log lines in a replica: where, how and from which level on Serve writes its own."""

from __future__ import annotations

import logging

PACKAGES = ("museserve", "musetalk")


def join_serve() -> None:
    """Called once in each replica: without a handler Python would print warnings alone, and without their level."""
    for name in PACKAGES:
        logging.getLogger(name).parent = logging.getLogger("ray.serve")

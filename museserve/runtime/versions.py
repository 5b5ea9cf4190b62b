"""What kept results are told apart by: a number that people raise, and the libraries whose output is kept."""

from __future__ import annotations

from functools import cache
from importlib import metadata


@cache
def stamp(number: int, *distributions: str) -> str:
    """`number`, which people raise, and each installed distribution: "3 av-17.1.0 opencv-python-5.0.0".

    The text of a producer says nothing of this kind: a comment would change it, and a new library would not.
    """
    return " ".join([str(number), *(f"{name}-{_installed(name)}" for name in distributions)])


def _installed(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "absent"

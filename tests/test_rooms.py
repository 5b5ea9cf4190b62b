"""The table of rooms in docs/design.md holds: every module lies in a room that it names, and imports only what the table allows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
TOPS = ("configs", "deployments", "graph", "museserve", "musetalk", "tools")
GUARDED = ("ray", "starlette", "torch")  # libraries that only the rooms which name them may import


def table() -> dict[str, set[str]]:
    """Room -> what it may import, in the order of the table."""
    rows = re.findall(r"^\| `([\w.]+)` \| [^|]+ \|([^|]*)\|$", DESIGN, re.M)
    return {room: set(re.findall(r"`([\w.]+)`", allowed)) for room, allowed in rows}


ROOMS = table()


def modules() -> dict[str, Path]:
    paths = [ROOT / "graph.py", *(path for top in TOPS for path in (ROOT / top).rglob("*.py"))]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


MODULES = modules()


def room_of(module: str) -> str:
    path = MODULES[module]
    return ".".join(path.parent.relative_to(ROOT).parts) or module


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a file imports, in functions and for type checkers too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield node.lineno, full if full in MODULES else str(node.module)


def test_every_module_lies_in_a_room_of_the_table() -> None:
    assert len(MODULES) > 100
    strays = sorted(name for name in MODULES if room_of(name) not in ROOMS)
    assert strays == [], "docs/design.md names no such room"
    assert set(ROOMS) == {room_of(name) for name in MODULES}, "docs/design.md names a room that is not there"


def test_rooms_lead_one_way() -> None:
    """Each may import only rooms above it in the table, so there is no circle."""
    above: list[str] = []
    for room, allowed in ROOMS.items():
        upward = allowed - set(GUARDED) - set(above)
        assert not upward, f"{room} may import {', '.join(sorted(upward))}, which the table has below it or not at all"
        above.append(room)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_imports_only_what_its_room_may(name: str) -> None:
    path, room = MODULES[name], room_of(name)
    for line, full in imported(path):
        top = full.split(".")[0]
        other = room_of(full) if full in MODULES else top
        if (top in TOPS or top in GUARDED) and other != room:
            assert other in ROOMS[room], f"{path.relative_to(ROOT)}:{line}: {room} may not import {other}"


def test_nothing_is_allowed_that_nothing_imports() -> None:
    used: dict[str, set[str]] = {room: set() for room in ROOMS}
    for name, path in MODULES.items():
        for _, full in imported(path):
            used[room_of(name)].add(room_of(full) if full in MODULES else full.split(".")[0])
    idle = {room: sorted(allowed - used[room]) for room, allowed in ROOMS.items()}
    assert {room: names for room, names in idle.items() if names} == {}

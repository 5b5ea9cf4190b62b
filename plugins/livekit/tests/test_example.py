"""The example, and the README's agent, speak in a room, which stands in here for one of a server."""

from __future__ import annotations

import asyncio
import re
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from room import Room, watching

PLUGIN = Path(__file__).resolve().parents[1]
EXAMPLE = PLUGIN.parents[1] / "examples" / "livekit_agent.py"


class Served(Room):
    """With what `RoomIO` asks of a room beside tracks: nobody else comes, and nothing is received."""

    def __init__(self) -> None:
        super().__init__()
        self.local_participant.set_attributes = connect  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("register_", "unregister_")):
            return lambda *_: None
        raise AttributeError(name)


async def connect(*_: object) -> None:
    pass


def snippet(folder: Path) -> Path:
    """The README's agent, as a file."""
    (code,) = re.findall(r"```python\n(.*?)```", (PLUGIN / "README.md").read_text(encoding="utf-8"), re.S)
    path = folder / "agent.py"
    path.write_text(code, encoding="utf-8")
    return path


@pytest.mark.parametrize("which", ["example", "README"])
async def test_it_speaks(url: str, which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSESERVE_URL", url)
    agent = runpy.run_path(str(EXAMPLE if which == "example" else snippet(tmp_path)))
    room, more = Served(), {"answer_s": 0.2} if which == "example" else {}

    async with watching(room, 24_000) as watched:
        await asyncio.wait_for(agent["entrypoint"](SimpleNamespace(connect=connect, room=room), **more), 120)
        loud = np.abs(watched.samples().astype(int)) > 1_000
    assert watched.pictures and loud.sum() > 24_000 / 4

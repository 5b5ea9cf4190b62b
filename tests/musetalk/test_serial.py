from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import numpy as np

from museserve.messages import AvatarRef, ByteArray, Conditioning, EngineInfo, RenderRequest, SpeechWindow
from musetalk.serial import SerialEngine
from tests.fakes import INFO

AVATAR = AvatarRef("grey", "1")


class Drawer:
    """Crops hold the number of their background frame. Every call waits for `gate`; `calls` has what was done, in order."""

    def __init__(self) -> None:
        self.info: EngineInfo = INFO
        self.gate, self.begun = threading.Event(), threading.Event()
        self.calls: list[str] = []
        self.threads: set[int] = set()

    def listen(self, speech: SpeechWindow) -> Conditioning:
        self._note("listen")
        return Conditioning(0, np.zeros((1, 1), np.float32), np.ones(1, np.bool_))

    def render(self, requests: Sequence[RenderRequest]) -> list[ByteArray]:
        (request,) = requests
        assert len(request.rows) == request.n_frames
        self._note(request.utterance)
        return [np.repeat(np.array(request.background, np.uint8)[:, None, None], 4, 1)]

    def check(self) -> None: ...

    def _note(self, what: str) -> None:
        self.begun.set()
        self.gate.wait()
        self.calls.append(what)
        self.threads.add(threading.get_ident())


def request(name: str, frames: int, due_s: float, *, first: bool = False) -> RenderRequest:
    return RenderRequest(AVATAR, tuple(range(frames)), np.zeros((frames, 1), np.float32), name, first, due_s)


async def test_whoever_runs_dry_first_is_drawn_first_also_in_the_middle_of_a_piece() -> None:
    drawer = Drawer()
    line = SerialEngine(drawer)
    calm = asyncio.ensure_future(line.render(request("calm", 6, 2.0)))
    await asyncio.to_thread(drawer.begun.wait)
    others = [
        line.render(request("soon", 3, 0.5)),
        line.render(request("new", 2, 0.5, first=True)),
        line.listen(SpeechWindow(0, np.zeros(9, np.float32), 0, 1)),
    ]
    waiting = [asyncio.ensure_future(other) for other in others]
    await asyncio.sleep(0)
    drawer.gate.set()
    drawn = await calm
    await asyncio.gather(*waiting)
    assert drawer.calls == ["calm", "listen", "new", "soon", "soon", "calm", "calm"]
    assert drawn.crops[:, 0, 0].tolist() == list(range(6))
    assert len(drawer.threads) == 1


async def test_what_nobody_waits_for_any_more_is_not_drawn() -> None:
    drawer = Drawer()
    line = SerialEngine(drawer)
    gone = asyncio.ensure_future(line.render(request("gone", 8, 0.0)))
    await asyncio.to_thread(drawer.begun.wait)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    drawer.gate.set()
    await line.render(request("next", 2, 9.0))
    assert drawer.calls == ["gone", "next"]

"""The graph with an engine that waits for each frame as long as a card would draw it, and takes no processor.

So two cores carry a dozen streams, and a LipSync replica has a bound that more replicas lift. `build` is the
`import_path` of a Serve document.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from ray.serve import Application

import graph
from configs.models import AppConfig
from deployments import lipsync
from museserve.messages import AvatarRef, ByteArray, Conditioning, RenderRequest, SpeechWindow
from musetalk.avatars.store import AvatarStore
from musetalk.engine import LipSyncEngine
from musetalk.factory import load_engine

FRAME_MS = "MUSESERVE_BENCHMARK_FRAME_MS"  # names how long a frame takes; of every node's environment


class Sleepy:
    """`LipSyncEngine`: the animator hears, and draws the first picture of each avatar, which is then shown for all."""

    def __init__(self, animator: LipSyncEngine, frame_s: float) -> None:
        self._animator, self._frame_s = animator, frame_s
        self._pictures: dict[AvatarRef, ByteArray] = {}
        self.info = replace(animator.info, reason=f"{frame_s * 1e3:g} ms of sleep a frame", device="sleep", batches=True)

    def listen(self, speech: SpeechWindow) -> Conditioning:
        return self._animator.listen(speech)

    def render(self, requests: Sequence[RenderRequest]) -> list[ByteArray]:
        time.sleep(sum(r.n_frames for r in requests) * self._frame_s)
        return [np.repeat(self._picture(r), r.n_frames, axis=0) for r in requests]

    def check(self) -> None:
        pass

    def _picture(self, request: RenderRequest) -> ByteArray:
        if request.avatar not in self._pictures:
            first = replace(request, background=request.background[:1], rows=request.rows[:1])
            (self._pictures[request.avatar],) = self._animator.render([first])
        return self._pictures[request.avatar]


def load_sleepy(config: AppConfig, store: AvatarStore) -> LipSyncEngine:
    return Sleepy(load_engine(config, store), float(os.environ.get(FRAME_MS, "2")) / 1e3)


class LipSync(lipsync.LipSync):
    def __init__(self, config: AppConfig) -> None:
        super().__init__(config, load_sleepy)


def build(config: AppConfig) -> Application:
    graph.__dict__["LipSync"] = LipSync
    return graph.build(config)

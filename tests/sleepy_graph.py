"""The graph with an engine that waits for each frame as long as a card would draw it, and takes no processor.

So two cores carry a dozen streams, and a LipSync replica has a bound that more replicas lift. `build` is the
`import_path` of a Serve document. Annotations must not be postponed here: by that of `build` Serve makes its argument.
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

FRAME_MS = "MUSESERVE_TEST_FRAME_MS"  # names how long a frame takes


class Sleepy:
    """`LipSyncEngine`: the animator hears, and draws the first picture of each avatar, which is shown from then on."""

    def __init__(self, animator: LipSyncEngine, frame_s: float) -> None:
        self._animator, self._frame_s = animator, frame_s
        self._pictures: dict[AvatarRef, ByteArray] = {}
        self.info = replace(animator.info, device="sleep")  # measured by the clock, not by its processor time

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
    return Sleepy(load_engine(config, store), float(os.environ[FRAME_MS]) / 1e3)


class LipSync(lipsync.LipSync):
    def __init__(self, config: AppConfig) -> None:
        super().__init__(config, load_sleepy)


def build(config: AppConfig) -> Application:
    graph.__dict__["LipSync"] = LipSync
    return graph.build(config)

"""The animator as a lip-sync engine: one portrait, no graphics card, no network but a very small one."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import cv2
import numpy as np

from configs.models import AnimatorConfig
from museserve.errors import EngineError, EngineUnavailableError
from museserve.messages import ANIMATOR, AvatarRef, ByteArray, Conditioning, EngineInfo, RenderRequest, SpeechWindow
from musetalk.animator.render import render_crop
from musetalk.animator.rig import Rig
from musetalk.speech_cues.controls import N_CONTROLS
from musetalk.speech_cues.drive import CONTEXT_S, LOOKAHEAD_S, listen
from musetalk.speech_cues.sound_model import MODEL_PATH, load_model

VERSION = "4"  # of what the same speech looks like
MAX_RIGS = 24  # about 15 MB each


class Animator:
    """Implements `musetalk.engine.LipSyncEngine`.

    Rigs are loaded at their first frame and the least recently used one is dropped. Thread-safe.
    """

    def __init__(self, config: AnimatorConfig, load_rig: Callable[[AvatarRef], Rig], reason: str = "configured") -> None:
        """
        Raises:
            EngineUnavailableError: the sound model that belongs to the package is missing or damaged.
        """
        try:
            load_model()
        except (OSError, KeyError, ValueError) as error:
            raise EngineUnavailableError(f"the animator's sound model {MODEL_PATH} cannot be read: {error}") from None
        # Frames are small: threads inside one call cost more than they save, and take cores from the other streams.
        cv2.setNumThreads(1)
        self._config = config
        self._load_rig = load_rig
        self._rigs: OrderedDict[AvatarRef, Future[Rig]] = OrderedDict()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(config.threads, "animator") if config.threads > 1 else None
        details = {"drive": config.drive, "threads": config.threads, "head_motion": config.head_motion}
        self.info = EngineInfo(ANIMATOR, reason, VERSION, "cpu", CONTEXT_S, LOOKAHEAD_S, details)

    def listen(self, speech: SpeechWindow) -> Conditioning:
        """Rows (n_frames, N_CONTROLS) float32; zero, and not `is_speaking`, in silence."""
        return listen(speech, self._config.drive, self._config.head_motion)

    def render(self, requests: Sequence[RenderRequest]) -> list[ByteArray]:
        """Crops in `Rig.box`, I420 uint8 (n, h * 3 // 2, w), one array a request.

        Raises:
            EngineError: a request whose rows do not fit its frames.
            UnknownAvatarError: as `load_rig` raises it.
        """
        for request in requests:
            if request.rows.shape != (request.n_frames, N_CONTROLS):
                raise EngineError(f"{request.n_frames} frames need rows ({request.n_frames}, {N_CONTROLS}), got {request.rows.shape}")
        rigs = [self._rig(request.avatar) for request in requests]
        each = self._pool.map if self._pool else map
        crops = [np.empty((request.n_frames, rig.box.h * 3 // 2, rig.box.w), np.uint8) for rig, request in zip(rigs, requests, strict=True)]
        drawn = [
            each(partial(render_crop, rig), request.background, np.asarray(request.rows, np.float32), out)
            for rig, request, out in zip(rigs, requests, crops, strict=True)
        ]
        for frames in drawn:
            deque(frames, maxlen=0)  # until each is there, or has raised
        return crops

    def forget(self, avatar: AvatarRef) -> None:
        """Drop its rig, which holds pages of its files."""
        with self._lock:
            self._rigs.pop(avatar, None)

    def check(self) -> None:
        """A processor is not lost the way a graphics card is: nothing to raise."""

    def _rig(self, avatar: AvatarRef) -> Rig:
        """The avatar's rig; whoever asks first loads it, the others wait for that."""
        with self._lock:
            future = self._rigs.get(avatar)
            first = future is None
            if future is None:
                future = self._rigs[avatar] = Future()
                while len(self._rigs) > MAX_RIGS:
                    self._rigs.popitem(last=False)
            self._rigs.move_to_end(avatar)
        if first:
            try:
                future.set_result(self._load_rig(avatar))
            except BaseException as error:
                with self._lock:
                    if self._rigs.get(avatar) is future:
                        del self._rigs[avatar]
                future.set_exception(error)
        return future.result()

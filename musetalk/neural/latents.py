"""The latents of avatars' faces on the device, kept while they are used."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from museserve.errors import EngineError
from museserve.messages import AvatarRef
from musetalk.neural.device import is_out_of_memory

FACE_SHAPE = (8, 32, 32)
LoadArrays = Callable[[AvatarRef], Mapping[str, NDArray[Any]]]


@dataclass(frozen=True)
class FaceLatents:
    """faces: (n_unique, 8, 32, 32) on the device; index: int64 (n_frames,), which of them each background frame shows."""

    faces: Tensor
    index: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        return self.faces.nbytes + self.index.nbytes

    def of(self, background: tuple[int, ...]) -> Tensor:
        """(n, 8, 32, 32) of these background frames. Raises EngineError for a frame that the avatar does not have."""
        if min(background) < 0 or max(background) >= len(self.index):
            raise EngineError(f"background frames {min(background)} to {max(background)} were asked for; the avatar has {len(self.index)}")
        chosen = torch.from_numpy(self.index[list(background)]).to(self.faces.device)
        return self.faces.index_select(0, chosen)


class LatentCache:
    """Thread-safe; the least recently used avatars are dropped above `max_bytes`, never the one in use."""

    def __init__(self, load: LoadArrays, device: torch.device, dtype: torch.dtype, max_bytes: int) -> None:
        self._load, self._device, self._dtype, self._max_bytes = load, device, dtype, max_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[AvatarRef, FaceLatents] = OrderedDict()

    def get(self, avatar: AvatarRef) -> FaceLatents:
        """Raises EngineError: the avatar is not prepared for this engine, or its arrays are another version's, or do not fit into memory."""
        with self._lock:
            found = self._kept.get(avatar)
            if found is None:
                found = self._kept[avatar] = self._place(avatar)
            self._kept.move_to_end(avatar)
            while self.nbytes > self._max_bytes and len(self._kept) > 1:
                self._kept.popitem(last=False)
            return found

    @property
    def nbytes(self) -> int:
        return sum(latents.nbytes for latents in self._kept.values())

    def _place(self, avatar: AvatarRef) -> FaceLatents:
        arrays = self._load(avatar)
        latents, index = (arrays.get(name, np.zeros(0)) for name in ("latents", "latent_index"))
        fits = latents.shape[1:] == FACE_SHAPE and index.ndim == 1 and len(index) > 0
        if not fits or not np.isin(index, np.arange(len(latents))).all():
            seen = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "nothing"
            raise EngineError(f"avatar {avatar.id!r} version {avatar.version} holds no latents for MuseTalk (found: {seen}); prepare it again")
        for retry in (True, False):
            try:
                faces = torch.from_numpy(np.array(latents)).to(device=self._device, dtype=self._dtype)
                return FaceLatents(faces, np.array(index, np.int64))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if retry:
                    self._kept.clear()
        raise EngineError(f"the memory of {self._device} has no room for the latents of avatar {avatar.id!r} ({latents.nbytes:,} bytes)")

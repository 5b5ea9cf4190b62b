"""Which lip-sync engine runs, and the store its avatars come from."""

from __future__ import annotations

from pathlib import Path

from configs.models import AvatarConfig, LipSyncConfig, cache_dir
from errors import EngineUnavailableError
from musetalk.animator.engine import Animator
from musetalk.animator.rig import Rig
from musetalk.avatar import AvatarStore
from musetalk.engine import LipSyncEngine

ANIMATOR = "animator"


def open_store(config: AvatarConfig, cache_bytes: int = 64 * 2**20) -> AvatarStore:
    """The configured avatar store; an empty URI is the user's cache folder."""
    uri = config.uri or str(Path(cache_dir()) / "avatars")
    return AvatarStore(uri, cache_bytes, max_avatars=config.max_avatars)


def load_engine(config: LipSyncConfig, store: AvatarStore) -> LipSyncEngine:
    """The engine that `config.engine` asks for.

    Raises:
        EngineUnavailableError: an explicit choice that cannot be met; never a quiet fallback.
    """
    if config.engine == "musetalk":
        raise EngineUnavailableError("engine: musetalk was asked for, but this version has only the animator; set lipsync.engine to auto or animator")
    reason = "configured" if config.engine == ANIMATOR else "auto: this version has no MuseTalk engine yet, so the CPU animator speaks"
    return Animator(config.animator, lambda ref: Rig.from_arrays(store.load(ref.id, ref.version).arrays(ANIMATOR)), reason=reason)

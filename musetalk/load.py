"""Which lip-sync engine runs, and the store its avatars come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from configs.models import AppConfig, AvatarConfig, LipSyncConfig, cache_dir
from contracts import Phoneme, RenderRequest, Speech
from errors import EngineUnavailableError
from musetalk.animator.engine import Animator
from musetalk.animator.rig import Rig
from musetalk.avatar import AvatarStore
from musetalk.builtin import BUILTIN
from musetalk.engine import LipSyncEngine
from musetalk.prepare import ANIMATOR, prepare_builtin
from timeline import FPS, SPEECH_RATE


def open_store(config: AvatarConfig, cache_bytes: int = 64 * 2**20) -> AvatarStore:
    """The configured avatar store; an empty URI is the user's cache folder."""
    uri = config.uri or str(Path(cache_dir()) / "avatars")
    return AvatarStore(uri, cache_bytes, max_avatars=config.max_avatars)


def shipped_store(config: AppConfig, cache_bytes: int) -> AvatarStore:
    """The store with the shipped avatars prepared in it; costs little when they are."""
    store = open_store(config.avatars, cache_bytes)
    for avatar_id in BUILTIN:
        prepare_builtin(avatar_id, store, config.avatars.size, config.mux.media)
    return store


def load_engine(config: LipSyncConfig, store: AvatarStore) -> LipSyncEngine:
    """The engine that `config.engine` asks for.

    Raises:
        EngineUnavailableError: an explicit choice that cannot be met; never a quiet fallback.
    """
    if config.engine == "musetalk":
        raise EngineUnavailableError("engine: musetalk was asked for, but this version has only the animator; set lipsync.engine to auto or animator")
    reason = "configured" if config.engine == ANIMATOR else "auto: this version has no MuseTalk engine yet, so the CPU animator speaks"
    return Animator(config.animator, lambda ref: Rig.from_arrays(store.load(ref.id, ref.version).arrays(ANIMATOR)), reason=reason)


def warm(engine: LipSyncEngine, store: AvatarStore, avatar_ids: Sequence[str]) -> None:
    """Hear and draw one frame of each avatar, so that the first caller does not pay for loading."""
    noise = np.random.default_rng(0).standard_normal(SPEECH_RATE).astype(np.float32) * 0.1
    heard = engine.listen(Speech(0, noise, 0, FPS, level=0.1, final=True))
    engine.listen(Speech(0, noise, 0, FPS, (Phoneme("a", 0, SPEECH_RATE),), 0.1, True))
    for avatar_id in avatar_ids:
        engine.render([RenderRequest(store.resolve(avatar_id), (0,), heard.rows[:1])])

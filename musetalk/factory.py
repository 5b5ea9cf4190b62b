"""Which lip-sync engine runs, and the store its avatars come from."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from configs.models import AppConfig, AvatarConfig, cache_dir
from museserve.errors import EngineError, EngineUnavailableError
from museserve.messages import AvatarRef, Conditioning, Phoneme, RenderRequest, SpeechWindow
from museserve.timebase import FPS, SPEECH_RATE
from musetalk.animator.engine import Animator
from musetalk.animator.rig import Rig
from musetalk.avatars.builtin import BUILTIN
from musetalk.avatars.from_portrait import prepare_builtin
from musetalk.avatars.store import AvatarStore
from musetalk.engine import ANIMATOR, MUSETALK, LipSyncEngine
from musetalk.weights.catalogue import files_for
from musetalk.weights.folder import WeightsFolder

if TYPE_CHECKING:
    from musetalk.neural.avatar_parts import FaceNetworks

logger = logging.getLogger(__name__)

STAND_INS = ("dwpose/", "face-parse-bisent/")  # where files are missing without which avatars are prepared less well, and told so


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


def load_engine(config: AppConfig, store: AvatarStore) -> LipSyncEngine:
    """The engine that `config.lipsync.engine` asks for, warm. `auto` is MuseTalk where it can run, else the animator; its `info` has the reason.

    Raises:
        EngineUnavailableError, WeightsError: an explicit choice that cannot be met; never a quiet fallback.
    """
    choice = config.lipsync.engine
    if choice == ANIMATOR:
        return _animator(config, store, "configured")
    missing = missing_for_musetalk(config)
    if choice == MUSETALK:
        if missing:
            raise _unmet(missing)
        return _musetalk(config, store, "configured")
    if not missing:
        try:
            return _musetalk(config, store, "auto: PyTorch, a CUDA device and the model files are there")
        except EngineUnavailableError as error:
            missing = str(error)
    meant = importlib.util.find_spec("torch") is not None  # without PyTorch nobody expects anything else
    logger.log(logging.WARNING if meant else logging.INFO, "MuseTalk cannot run, so the CPU animator speaks: %s", missing)
    return _animator(config, store, f"auto: {missing}, so the CPU animator speaks")


def check_choice(config: AppConfig) -> None:
    """What of `lipsync.engine` can be told without PyTorch, on the machine that serves: known in a moment, before anything is started.

    Raises:
        EngineUnavailableError: musetalk was asked for, and PyTorch or model files are missing.
    """
    if config.lipsync.engine == MUSETALK and (missing := _not_installed(config)):
        raise _unmet("; ".join(missing))


def load_face_networks(config: AppConfig) -> tuple[FaceNetworks | None, str]:
    """What avatars are prepared for MuseTalk with, when MuseTalk is what runs; else None, and why.

    Raises:
        EngineUnavailableError, WeightsError: MuseTalk was asked for by name and cannot run, or a file is damaged.
    """
    if config.lipsync.engine == ANIMATOR:
        return None, "lipsync.engine is animator"
    missing = missing_for_musetalk(config, "face_prep")
    if not missing:
        from musetalk.neural.avatar_parts import FaceNetworks

        share = config.deployments.face_prep.num_gpus
        try:
            return FaceNetworks(config, gpu_share=share if 0 < share < 1 else None), ""
        except EngineUnavailableError as error:
            missing = str(error)
    if config.lipsync.engine == MUSETALK:
        raise _unmet(missing)
    logger.warning("avatars are prepared for the animator alone: %s", missing)
    return None, f"auto: {missing}"


def prepare_shipped(config: AppConfig, store: AvatarStore, networks: FaceNetworks | None = None) -> None:
    """See to it that the shipped avatars are prepared for MuseTalk. Its face networks are loaded, and freed again, only when one is not."""
    from musetalk.neural.avatar_parts import FaceNetworks, neural_version

    version = neural_version(config)
    lacking = [avatar_id for avatar_id in BUILTIN if store.meta(avatar_id).engines.get(MUSETALK) != version]
    if lacking and networks is None:
        networks = FaceNetworks(config)
    for avatar_id in lacking:
        prepare_builtin(avatar_id, store, config.avatars.size, config.mux.media, networks)


def missing_for_musetalk(config: AppConfig, deployment: str = "lipsync") -> str:
    """What MuseTalk lacks on this machine and how to mend it, in one line; empty when it can run. Imports PyTorch only when all else is there."""
    options = config.lipsync.musetalk
    if found := _not_installed(config):
        return "; ".join(found)
    from musetalk.neural import device

    try:
        device.choose(options)
    except EngineUnavailableError as error:
        hidden = f"; deployments.{deployment}.num_gpus is 0, so a replica is shown no card: see configs/gpu.yaml"
        return f"{error}{'' if getattr(config.deployments, deployment).num_gpus else hidden}"
    return ""


def _not_installed(config: AppConfig) -> list[str]:
    torch = [] if importlib.util.find_spec("torch") else ["PyTorch is not installed (pip install 'museserve[gpu]')"]
    return torch + missing_files(config)


def _unmet(missing: str) -> EngineUnavailableError:
    return EngineUnavailableError(f"lipsync.engine: musetalk was asked for, but {missing}; or set lipsync.engine to auto or animator")


def missing_files(config: AppConfig) -> list[str]:
    """One line for each purpose whose model files are not whole; DWPose and the face parser are not counted, because others stand in for them."""
    options, folder = config.lipsync.musetalk, WeightsFolder(config.weights)
    lines = []
    for purpose in (options.version, *(("taesd",) if options.decoder == "taesd" else ()), *(("restore",) if options.restore else ())):
        names = [found.file.name for found in folder.missing(purpose) if not found.file.name.startswith(STAND_INS)]
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            lines.append(f"model files are missing: {shown} (museserve weights download --for {purpose})")
    return lines


def weights_report(config: AppConfig) -> dict[str, str]:
    """For /health: whether the files of each version of MuseTalk are there, by their sizes."""
    folder = WeightsFolder(config.weights)
    report = {}
    for purpose in ("v15", "v1", "taesd", "restore"):
        missing = folder.missing(purpose)
        wanted = sum(not file.optional for file in files_for(purpose))
        report[purpose] = "present" if not missing else f"{len(missing)} of {wanted} files missing"
    return report


def _animator(config: AppConfig, store: AvatarStore, reason: str) -> LipSyncEngine:
    return Animator(config.lipsync.animator, lambda ref: Rig.from_arrays(store.load(ref.id, ref.version).arrays(ANIMATOR)), reason=reason)


def _musetalk(config: AppConfig, store: AvatarStore, reason: str) -> LipSyncEngine:
    from musetalk.neural.avatar_parts import neural_version
    from musetalk.neural.engine import MuseTalk  # brings PyTorch, which the animator does without

    share = config.deployments.lipsync.num_gpus
    version = neural_version(config)

    def arrays(ref: AvatarRef) -> dict[str, NDArray[Any]]:
        avatar = store.load(ref.id, ref.version)
        if avatar.meta.engines.get(MUSETALK, version) != version:
            raise EngineError(
                f"avatar {ref.id!r} was prepared for MuseTalk with other networks or settings ({avatar.meta.engines[MUSETALK]}, here {version}); "
                "it is prepared again when face preparation starts"
            )
        return avatar.arrays(MUSETALK)

    return MuseTalk(
        config.lipsync.musetalk,
        WeightsFolder(config.weights),
        arrays,
        reason=reason,
        gpu_share=share if 0 < share < 1 else None,
    )


def warm_listening(engine: LipSyncEngine) -> Conditioning:
    """Hear one second, without and with its phonemes; what was heard. On a card every thread that hears has handles and workspaces of its own."""
    noise = np.random.default_rng(0).standard_normal(SPEECH_RATE).astype(np.float32) * 0.1
    engine.listen(SpeechWindow(0, noise, 0, FPS, (Phoneme("a", 0, SPEECH_RATE),), 0.1, True))
    return engine.listen(SpeechWindow(0, noise, 0, FPS, level=0.1, final=True))


def warm(engine: LipSyncEngine, store: AvatarStore, avatar_ids: Sequence[str]) -> None:
    """Hear and draw one frame of each avatar, so that the first caller does not pay for loading."""
    heard = warm_listening(engine)
    for avatar_id in avatar_ids:
        engine.render([RenderRequest(store.resolve(avatar_id), (0,), heard.rows[:1])])

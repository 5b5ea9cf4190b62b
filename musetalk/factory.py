"""Which lip-sync engine runs, and what avatars are prepared with: loaded as the configuration asks for it."""

from __future__ import annotations

import importlib.util
import itertools
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from configs.models import AppConfig
from museserve.errors import EngineError, EngineUnavailableError, WeightsError
from museserve.messages import ANIMATOR, MUSETALK, AvatarRef, Conditioning, Phoneme, RenderRequest, SpeechWindow
from museserve.timebase import FPS, SPEECH_RATE
from museserve.weights.catalogue import BY_NAME
from museserve.weights.folder import WeightsFolder
from musetalk.animator.engine import Animator
from musetalk.animator.rig import Rig
from musetalk.avatars.builtin import BUILTIN
from musetalk.avatars.from_portrait import prepare_builtin
from musetalk.avatars.progress import PREPARING_SHIPPED, Progress, in_lines
from musetalk.avatars.store import AvatarStore
from musetalk.choice import missing_for_musetalk, unmet
from musetalk.engine import LipSyncEngine

if TYPE_CHECKING:
    from musetalk.neural.avatar_parts import FaceNetworks

logger = logging.getLogger(__name__)

MEASURED_S = 0.5  # for which an engine is tried

LoadEngine = Callable[[AppConfig, AvatarStore], LipSyncEngine]


def load_engine(config: AppConfig, store: AvatarStore) -> LipSyncEngine:
    """The engine that `config.lipsync.engine` asks for. `auto` is MuseTalk where it can run, else the animator; its
    `info` has the reason.

    Raises:
        EngineUnavailableError, WeightsError: an explicit choice that cannot be met; never a quiet fallback.
    """
    choice = config.lipsync.engine
    if choice == ANIMATOR:
        return _animator(config, store, "configured")
    missing = missing_for_musetalk(config)
    if choice == MUSETALK:
        if missing:
            raise unmet(missing)
        return _musetalk(config, store, "configured")
    if not missing:
        try:
            return _musetalk(config, store, "auto: PyTorch, a CUDA device and the model files are there")
        except EngineUnavailableError as error:
            logger.warning("MuseTalk could not be loaded: %s", error)
            missing = _told(error)
    meant = importlib.util.find_spec("torch") is not None  # without PyTorch nobody expects anything else
    logger.log(logging.WARNING if meant else logging.INFO, "MuseTalk cannot run, so the CPU animator speaks: %s", missing)
    return _animator(config, store, f"auto: {missing}, so the CPU animator speaks")


def ready_engine(config: AppConfig, store: AvatarStore, load: LoadEngine = load_engine, progress: Progress | None = None) -> LipSyncEngine:
    """The engine that `load` gives, and the shipped avatars prepared for it, with `progress`. Raises as `load_engine`."""
    engine = load(config, store)
    if engine.info.name == MUSETALK:
        prepare_shipped(config, store, progress=progress)
    return engine


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
            if config.lipsync.engine == MUSETALK:
                raise unmet(str(error)) from None
            logger.warning("MuseTalk's face networks could not be loaded: %s", error)
            missing = _told(error)
    if config.lipsync.engine == MUSETALK:
        raise unmet(missing)
    logger.warning("avatars are prepared for the animator alone: %s", missing)
    return None, f"auto: {missing}"


def _told(error: EngineUnavailableError) -> str:
    """What callers of the API may read of it: not where model files lie."""
    if not isinstance(error, WeightsError):
        return str(error)
    named = [name for name in BY_NAME if name in str(error)]
    return f"model files are missing or damaged: {', '.join(named) or 'the log names them'}"


def prepare_shipped(config: AppConfig, store: AvatarStore, networks: FaceNetworks | None = None, progress: Progress | None = None) -> None:
    """See to it that the shipped avatars are prepared for MuseTalk. Its face networks are loaded, and freed again, only when one is not.

    progress: told how far it is, which takes minutes the first time; None = the log.
    """
    from musetalk.neural.avatar_parts import FaceNetworks, neural_version

    version = neural_version(config)
    lacking = [avatar_id for avatar_id in BUILTIN if store.meta(avatar_id).engines.get(MUSETALK) != version]
    if lacking and networks is None:
        networks = FaceNetworks(config)
    progress = progress or in_lines(logger.info, PREPARING_SHIPPED)
    for i, avatar_id in enumerate(lacking):

        def of_all(step: str, done: float, i: int = i, avatar_id: str = avatar_id) -> None:
            progress(f"{avatar_id}: {step}", (i + done) / len(lacking))

        prepare_builtin(avatar_id, store, config.avatars.size, config.mux.media, networks, progress=of_all)


def _animator(config: AppConfig, store: AvatarStore, reason: str) -> LipSyncEngine:
    engine = Animator(config.lipsync.animator, lambda ref: Rig.from_arrays(store.load(ref.id, ref.version).arrays(ANIMATOR)), reason=reason)
    store.when_gone(engine.forget)
    return engine


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


def streams_in_time(engine: LipSyncEngine, store: AvatarStore, avatar_ids: Sequence[str], max_frames: int) -> float:
    """How many streams the engine hears and draws as fast as they are watched, with nothing else to do; it must be
    warm.

    On a processor its own time counts, because others may use the same cores just now, and of several tries the best.
    Takes `MEASURED_S`, or one try.
    """
    clock = time.process_time if engine.info.device == "cpu" else time.perf_counter
    began = time.perf_counter()
    heard_s, drawn_s = math.inf, math.inf  # of a second of speech; of a frame
    for avatar_id, n in itertools.cycle(itertools.product(avatar_ids, (2, max_frames))):  # first what is quick anyway
        at = clock()
        heard = warm_listening(engine)  # two seconds of speech
        heard_s = min(heard_s, (clock() - at) / 2)
        rows = np.resize(heard.rows, (n, *heard.rows.shape[1:]))
        at = clock()
        engine.render([RenderRequest(store.resolve(avatar_id), tuple(range(n)), rows)])
        drawn_s = min(drawn_s, (clock() - at) / n)
        if time.perf_counter() - began > MEASURED_S:
            break
    return 1 / (heard_s + drawn_s * FPS)


def warm(engine: LipSyncEngine, store: AvatarStore, avatar_ids: Sequence[str]) -> None:
    """Hear and draw one frame of each avatar, so that the first caller does not pay for loading."""
    heard = warm_listening(engine)
    for avatar_id in avatar_ids:
        engine.render([RenderRequest(store.resolve(avatar_id), (0,), heard.rows[:1])])

"""From a portrait to an avatar in the store: read, find the face, report, frame, rig, idle loop, encode, save."""

from __future__ import annotations

import hashlib
import logging
import zlib
from functools import partial

from configs.models import MediaConfig
from museserve.errors import ConflictError, EngineError, ImageError, RequestError, StoreError, UnknownAvatarError
from museserve.media.idle_loop import Lap, encode_idle
from museserve.messages import ANIMATOR, MUSETALK, AvatarRef, ByteArray, FloatArray
from museserve.runtime.foreign import READERS
from museserve.runtime.versions import stamp
from musetalk.animator.life import LAPS, lap
from musetalk.animator.render import idle_loop, lap_frame
from musetalk.animator.rig import VERSION, Rig
from musetalk.avatars.assembly import PartsEncoder, encode_and_save, version_for
from musetalk.avatars.builtin import BUILTIN, resolve, shipped_digest, shipped_facts, shipped_portrait
from musetalk.avatars.format import AvatarSource, EngineParts, check_id, content_version, name_of, to_png
from musetalk.avatars.progress import Progress, Steps
from musetalk.avatars.store import AvatarStore
from musetalk.faces.framing import frame_portrait, read_portrait
from musetalk.faces.mediapipe import find_faces
from musetalk.faces.quality import GLASSES, FaceReport, assess_portrait

logger = logging.getLogger(__name__)

PREPARATION = 6  # of what this file does: raise it with any change to what it stores
KEPT_LIBRARIES = ("av", "mediapipe")  # what encoded the idle loop and found the landmarks


def prepare_portrait(
    data: bytes,
    *,
    id: str,
    name: str = "",
    gender: str = "female",
    size: int = 512,
    store: AvatarStore,
    max_pixels: int = 40_000_000,
    media: MediaConfig | None = None,
    networks: PartsEncoder | None = None,
    progress: Progress | None = None,
) -> tuple[AvatarRef, FaceReport]:
    """Make an avatar of an uploaded picture and store it. The same picture and settings again change nothing.

    Args:
        data: the bytes of a PNG, JPEG or WebP picture; id, name, gender: of the avatar; size: side of its pictures in pixels.
        networks: when they are there, the avatar is prepared for MuseTalk too.
        progress: told each step by name, with the part of the whole that is done before it; what it raises breaks off, and nothing is stored.
    Raises:
        ImageError: not a usable picture, or no usable face; the message says why.
        RequestError: the id or gender is not acceptable. ConflictError: it is a shipped avatar's id, or the store is full.
    """
    check_request(id, gender)
    store.check_room(id)
    steps = Steps(progress)
    with steps("read", 0.0, 0.05):
        picture = READERS.array(ImageError, "the picture", read_portrait, data, max_pixels)
    with steps("find the face", 0.05, 0.1):
        face, report = assess_portrait(picture, find_faces(picture))
    with steps("frame", 0.1, 0.15):
        framing = frame_portrait(picture, face, 2 * size)
        landmarks = _landmarks_in(framing.portrait)
        if framing.padded > 0.02:
            warning = f"{100 * framing.padded:.0f} % of the portrait lies beyond the picture and is filled in; leave more room around the head"
            report = report.model_copy(update={"warnings": (*report.warnings, warning)})
        if report.glasses > GLASSES and not Rig.traces_rims(framing.portrait, landmarks, size):
            warning = "the rims of the glasses cannot be told from the face, so the eyes do not blink"
            report = report.model_copy(update={"blinks": False, "warnings": (*report.warnings, warning)})
        png = to_png(framing.portrait)
    source = AvatarSource(
        id=id,
        name=name or id,
        gender="male" if gender == "male" else "female",
        source_sha256=hashlib.sha256(data).hexdigest(),
        portrait_png=png,
        landmarks=landmarks,
        report=report.model_dump(mode="json"),
    )
    ref = prepare_framed(source, size, store, media or MediaConfig(), steps, networks)
    logger.info("avatar prepared: id=%s version=%s size=%d %s", ref.id, ref.version, size, steps)
    return ref, report


def builtin_settings(avatar_id: str, size: int, media: MediaConfig) -> str:
    """What tells a current shipped avatar from an outdated one, its networks apart. Raises UnknownAvatarError."""
    name, gender = shipped_facts(avatar_id)
    return _settings(avatar_id, name, gender, shipped_digest(avatar_id), size, media)


def prepare_builtin(
    avatar_id: str,
    store: AvatarStore,
    size: int = 512,
    media: MediaConfig | None = None,
    networks: PartsEncoder | None = None,
    *,
    verify: bool = False,
    progress: Progress | None = None,
) -> AvatarRef:
    """Make sure that a shipped avatar lies in the store, current and, with `verify`, whole. Detects nothing.

    Costs one small read when it is there; with `verify` all its files are read. With `networks` it is prepared for MuseTalk
    too; without them one that is so already is left as it is.
    Processes that do this at once, on any machine, wait for the first.

    Raises:
        UnknownAvatarError: no such avatar ships with the project.
    """
    media = media or MediaConfig()
    settings = builtin_settings(avatar_id, size, media)

    def there() -> AvatarRef | None:
        """The current version, when it does for what is asked."""
        try:
            meta = store.meta(avatar_id)
        except UnknownAvatarError:
            return None
        except StoreError:
            raise
        except EngineError:
            return None  # damaged
        wanted = version_for(settings, networks)
        if meta.version != wanted and (networks is not None or meta.settings != settings):
            return None
        return meta.ref if not verify or store.holds(meta.ref) else None

    if found := there():
        return found
    with store.making(avatar_id):
        store.seen_anew(avatar_id)
        if found := there():
            return found
        steps, outdated = Steps(progress), _is_outdated(avatar_id, store, settings, networks)
        ref = prepare_framed(shipped_portrait(avatar_id), size, store, media, steps, networks)
        # Making an older store new takes a while: that is told even where nothing is logged that goes well.
        again = " again, as the stored one is of another version or other settings, or damaged"
        level, why = (logging.WARNING, again) if outdated else (logging.INFO, "")
        logger.log(level, f"built-in avatar prepared{why}: id=%s version=%s size=%d %s", ref.id, ref.version, size, steps)
    return ref


def animator_version() -> str:
    """Changes with what the animator draws, because idle loop, rig and drawing must agree to the pixel."""
    return content_version(stamp(VERSION, "opencv-python"))


def prepare_framed(
    source: AvatarSource,
    size: int,
    store: AvatarStore,
    media: MediaConfig,
    steps: Steps,
    networks: PartsEncoder | None,
) -> AvatarRef:
    """An avatar of a portrait that is framed already and whose landmarks are known. Raises as `encode_and_save`."""
    drawn = 0.3 if networks else 0.6
    with steps("rig", 0.15, 0.2):
        spectacles = source.report.get("glasses", 0.0) > GLASSES
        rig = Rig.build(source.portrait, source.landmarks, size, spectacles=spectacles)
    with steps("draw the idle loop", 0.2, drawn):
        drawn_loop = idle_loop(rig)
    with steps("encode the idle loop", drawn, drawn + 0.1):
        idle = encode_idle(drawn_loop, media, laps=_laps(rig, zlib.crc32(source.landmarks.tobytes()), media.gestures))
    engines = {ANIMATOR: EngineParts(animator_version(), rig.box, rig.to_arrays())}
    settings = _settings(source.id, source.name, source.gender, source.source_sha256, size, media)
    return encode_and_save(source, idle, engines, settings, store, networks, steps, drawn + 0.1, 0.9)


def _laps(rig: Rig, seed: int, amount: float) -> dict[str, Lap]:
    """What this face does while it listens and thinks."""
    made = {state: lap(rig.motion, state, seed, amount) for state in LAPS} if amount else {}
    return {state: Lap(tuple((span.first, span.n) for span in one.spans), partial(lap_frame, rig, one)) for state, one in made.items()}


def _settings(avatar_id: str, name: str, gender: str, sha256: str, size: int, media: MediaConfig) -> str:
    return content_version(stamp(PREPARATION, *KEPT_LIBRARIES), animator_version(), avatar_id, name, gender, sha256, size, media.model_dump_json())


def check_request(avatar_id: str, gender: str) -> None:
    """Raises RequestError, ConflictError."""
    try:
        check_id(avatar_id)
    except UnknownAvatarError as error:
        raise RequestError(str(error)) from None
    if resolve(name_of(avatar_id)) in BUILTIN:
        raise ConflictError(f"{name_of(avatar_id)!r} ships with the project; choose another id")
    if gender not in ("female", "male"):
        raise RequestError(f"gender is {gender!r}; female and male are accepted")


def _landmarks_in(portrait: ByteArray) -> FloatArray:
    """Landmarks found afresh in the framed portrait, where they are most exact."""
    faces = find_faces(portrait)
    if not faces:
        raise ImageError("a face was found in the picture, but not again after it was framed; use a larger or sharper picture")
    return faces[0].landmarks


def _is_outdated(avatar_id: str, store: AvatarStore, settings: str, networks: PartsEncoder | None) -> bool:
    """Whether something is stored that these settings and networks did not make, or that cannot be read."""
    try:
        meta = store.meta(avatar_id)
    except UnknownAvatarError:
        return False
    except EngineError:
        return True
    other_networks = networks is not None and meta.engines.get(MUSETALK, networks.version) != networks.version
    return meta.settings != settings or other_networks

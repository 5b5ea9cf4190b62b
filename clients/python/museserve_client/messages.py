"""What the service says in a session, as frozen dataclasses. Fields of a newer service that are not known here are left out."""

from __future__ import annotations

import json
import struct
import sys
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from museserve_client.errors import MuseserveError

T = TypeVar("T")


@dataclass(frozen=True)
class Idle:
    """The idle loop. url: from the service's root. first_bytes: of that, in which the first three segments are."""

    url: str
    frames: int
    segments: int
    first_bytes: int | None = None


@dataclass(frozen=True)
class Media:
    codecs: str
    width: int
    height: int
    fps: int
    segment_frames: int
    audio_rate: int


@dataclass(frozen=True)
class Limits:
    """Seconds and bytes; docs/sessions.md."""

    queued_utterances: int
    message_bytes: int
    heartbeat_s: float
    resume_s: float
    window_bytes: int = 0
    messages_per_s: float = 0.0
    text_chars: int = 0
    audio_bytes: int = 0
    audio_s: float = 0.0
    silent_s: float = 0.0
    idle_s: float = 0.0
    session_s: float = 0.0


@dataclass(frozen=True)
class Engine:
    name: str
    reason: str


@dataclass(frozen=True)
class Ready:
    """How the session is set up. notices: what is not as it was asked for."""

    session: str
    token: str = field(repr=False)
    avatar: str
    avatar_version: str
    voice: str
    lips: Engine
    speech: Engine
    idle: Idle
    media: Media
    limits: Limits
    resumed: bool = False
    notices: tuple[str, ...] = ()
    queue: tuple[str, ...] = ()
    digital_source_type: str = ""
    seq: int = 0


@dataclass(frozen=True)
class Queued:
    id: str
    n: int
    ahead: int
    seq: int = 0


@dataclass(frozen=True)
class Accepted:
    what: str
    id: str | None = None
    pending_chars: int | None = None
    seq: int = 0


@dataclass(frozen=True)
class Started:
    """A run of fragments begins. Frame f of the utterance is drawn on idle frame (grid + f) modulo the loop, from the run's second segment on."""

    id: str
    n: int
    first_frame: int
    phase: int
    grid: int
    cached: str = "no"
    speech_engine: str = ""
    notice: str = ""
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    seq: int = 0


@dataclass(frozen=True)
class Part:
    """What is made in one go. sound_ms: where in the sound that was sent it begins; None where none was sent."""

    id: str
    n: int
    first_frame: int
    phase: int
    first_word: int
    first_cue: int
    chars: tuple[int, int] | None = None
    sound_ms: float | None = None
    seq: int = 0


@dataclass(frozen=True)
class Word:
    text: str
    start_ms: int
    end_ms: int
    estimated: bool = False


@dataclass(frozen=True)
class Cue:
    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Words:
    """`words` replace the utterance's words from number first_word on, `cues` its cues from first_cue on."""

    id: str
    n: int
    first_word: int
    words: tuple[Word, ...]
    first_cue: int
    cues: tuple[Cue, ...]
    final: bool = False
    seq: int = 0


@dataclass(frozen=True)
class Waiting:
    """All that came is spoken, and more was announced: idle follows `frames`, from idle frame `phase`. sound_ms: as of `Finished`, so far."""

    id: str
    n: int
    frames: int
    phase: int
    sound_ms: float | None = None
    seq: int = 0


@dataclass(frozen=True)
class Delayed:
    """The service is full; it tries again."""

    id: str
    n: int
    retry_after_s: float
    seq: int = 0


@dataclass(frozen=True)
class Finished:
    """The utterance's last fragment came before this; idle goes on from frame `phase`. sound_ms: of the sound that was sent."""

    id: str
    n: int
    frames: int
    phase: int
    sound_ms: float | None = None
    seq: int = 0


@dataclass(frozen=True)
class Manifest:
    """C2PA, base64."""

    id: str
    n: int
    c2pa: str
    seq: int = 0


@dataclass(frozen=True)
class Interrupted:
    """Nothing of the utterance follows. frames: sent.

    played_ms: how much of its sound was played, by what the client told (played_told), else as if what was sent had been played at once.
    """

    id: str
    n: int
    frames: int
    by: str = "client"
    played_ms: float | None = None
    played_told: bool | None = None
    seq: int = 0


@dataclass(frozen=True)
class NothingToInterrupt:
    """played_ms: of the utterance that was finished last, as in `Interrupted`."""

    reason: str
    id: str | None = None
    played_ms: float | None = None
    played_told: bool | None = None
    seq: int = 0


@dataclass(frozen=True)
class Failure:
    code: str
    message: str
    id: str | None = None
    retry_after_s: float | None = None
    closing: int | None = None
    seq: int = 0


@dataclass(frozen=True)
class Moving:
    within_s: float
    seq: int = 0


@dataclass(frozen=True)
class Pong:
    t: float | None = None
    seq: int = 0


@dataclass(frozen=True)
class Fragment:
    """One moof + mdat of pictures and sound. Frames count from the utterance's start.

    phase: the idle frame that its first picture is drawn on. starts: first of a run. ends: last of the utterance, where that is known.
    init: an init segment stands before it. key: it can be decoded without those before it.
    """

    seq: int
    n: int
    first_frame: int
    n_frames: int
    phase: int
    starts: bool
    ends: bool
    init: bool
    key: bool
    data: bytes = field(repr=False)


ServerMessage = (
    Ready
    | Queued
    | Accepted
    | Started
    | Part
    | Words
    | Waiting
    | Delayed
    | Finished
    | Manifest
    | Interrupted
    | NothingToInterrupt
    | Failure
    | Moving
    | Pong
)
Event = Started | Part | Words | Fragment | Waiting | Delayed | Finished | Interrupted

TYPES: dict[str, type[Any]] = {
    "ready": Ready,
    "queued": Queued,
    "accepted": Accepted,
    "started": Started,
    "part": Part,
    "words": Words,
    "waiting": Waiting,
    "delayed": Delayed,
    "finished": Finished,
    "manifest": Manifest,
    "interrupted": Interrupted,
    "nothing_to_interrupt": NothingToInterrupt,
    "error": Failure,
    "moving": Moving,
    "pong": Pong,
}
HEADER = struct.Struct(">BBHIIIHH")
HEADER_VERSION = 1
STARTS, ENDS, INIT, KEY = 1, 2, 4, 8


def parse(text: str) -> ServerMessage | None:
    """A text frame; None of a type that is not known here. Raises MuseserveError when it is not as the protocol says."""
    try:
        said = json.loads(text)
        cls = TYPES.get(said["type"])
        return None if cls is None else made(cls, said)
    except (ValueError, KeyError, TypeError) as error:
        raise MuseserveError(f"the service said what no session says ({error!r}): {text[:200]}") from error


def parse_fragment(data: bytes) -> Fragment:
    """A binary frame. Raises MuseserveError."""
    if len(data) < HEADER.size or data[0] != HEADER_VERSION:
        raise MuseserveError(f"a fragment came with a header of another version: {data[:1].hex() or 'empty'}, {len(data)} bytes")
    _, flags, n_frames, seq, n, first_frame, phase, _ = HEADER.unpack_from(data)
    starts, ends, init, key = (bool(flags & bit) for bit in (STARTS, ENDS, INIT, KEY))
    return Fragment(seq, n, first_frame, n_frames, phase, starts, ends, init, key, data[HEADER.size :])


def made(cls: type[T], said: Mapping[str, Any]) -> T:
    """A message from its JSON. Raises KeyError, TypeError."""
    given = {}
    plan: Any = _plan(cls)  # type: ignore[arg-type]  # a class has a hash
    for name, hint, needed in plan:
        if name in said:
            given[name] = _value(hint, said[name])
        elif needed:
            raise KeyError(name)
    return cls(**given)


@cache
def _plan(cls: Any) -> tuple[tuple[str, Any, bool], ...]:
    hints = get_type_hints(cls, vars(sys.modules[cls.__module__]))
    return tuple((f.name, hints[f.name], f.default is MISSING and f.default_factory is MISSING) for f in fields(cls))


def _value(hint: Any, value: Any) -> Any:
    if is_dataclass(hint):
        return made(hint, value)  # type: ignore[arg-type]
    if get_origin(hint) in (Union, types.UnionType):
        inner = [one for one in get_args(hint) if one is not type(None)]
        return None if value is None else _value(inner[0], value)
    if get_origin(hint) is tuple:
        return tuple(_value(get_args(hint)[0], one) for one in value)
    return value

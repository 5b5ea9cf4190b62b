"""What flows between the boxes: plain frozen data, no behaviour, importable everywhere.

Arrays that arrive through a Ray handle are read-only: copy before writing.
Pictures are planar I420 (BT.601, limited range) as OpenCV lays it out: uint8 (h * 3 // 2, w), h and w even. It is what the encoder takes and
half the bytes of RGB, so nothing is converted between the renderer and H.264.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

ANIMATOR, MUSETALK = "animator", "musetalk"  # the engines' names: in `EngineInfo`, avatars and the configuration
PROVIDER = "openai"  # in `SpeechChunk.engine`: a voice that comes at its own pace, and says the same text otherwise the next time

FloatArray = NDArray[np.float32]
ByteArray = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class CallIds:
    """For whom a call is made: what its log lines and traces are found by, and nothing else. Empty where there is none."""

    utterance: str = ""
    session: str = ""


@dataclass(frozen=True)
class Phoneme:
    """One sound with its time. `symbol` is bare IPA with no stress or length marks ("a", "tʃ", "ŋ"); pauses have the symbol "".

    `start` and `end` are samples at `SPEECH_RATE` from the utterance's first sample, already corrected for the engine's known bias.
    `stress`: 0 none, 1 primary, 2 secondary.
    """

    symbol: str
    start: int
    end: int
    stress: int = 0


@dataclass(frozen=True)
class Word:
    """One word as written (not as normalised), for captions. Times as in `Phoneme`; `estimated` when the engine did not know them."""

    text: str
    start: int
    end: int
    estimated: bool = False


@dataclass(frozen=True)
class SpeechChunk:
    """A piece of an utterance in order. `pcm` float32 (n,) in -1..1 at `SPEECH_RATE`; chunks are contiguous: `start` of the next = start + n.

    `phonemes` is None when the engine knows none (the lips then follow the sound alone), else the phonemes that start inside
    this chunk. `final` marks the utterance's last chunk (which may be empty). `engine` and `notice` tell which voice spoke and
    why, when it is not the one that was asked for.
    """

    start: int
    pcm: FloatArray
    phonemes: tuple[Phoneme, ...] | None = None
    words: tuple[Word, ...] = ()
    final: bool = False
    engine: str = ""
    notice: str = ""


@dataclass(frozen=True)
class Delivery:
    """How a text is to be spoken. Whoever constructs one has parsed it, as `speech.request.parse_delivery` does.

    voice: a name as `voices.parse_name` spells it. speed: 0.25..4 times the voice's own pace.
    language: a base tag of BCP 47 ("en"), or "auto".
    gender: "female" or "male", what an offline engine falls back on when it does not have `voice`.
    """

    voice: str
    speed: float
    language: str
    gender: str


@dataclass(frozen=True)
class SpeechRequest:
    """One utterance to synthesise: `text` in NFC, trimmed, with something to speak; instructions: how, for a provider that understands them.

    The other fields are those of `Delivery`.

    Whoever constructs one has parsed it, as `speech.request.parse_speech` does: nobody checks it again.
    """

    text: str
    voice: str = "nova"
    speed: float = 1.1
    language: str = "auto"
    gender: str = "female"
    instructions: str = ""

    @property
    def delivery(self) -> Delivery:
        return Delivery(self.voice, self.speed, self.language, self.gender)


@dataclass(frozen=True)
class SpeechWindow:
    """A stretch of speech with context around it: the argument of `listen`.

    pcm: float32 (n,) at `SPEECH_RATE`, beginning at sample `start` of the utterance (a multiple of 960, so a frame boundary).
    phonemes: those that overlap the stretch, or None to be driven by the sound alone. first_phoneme: the number of their first in the utterance.
    first_frame, n_frames: the frames whose conditioning is wanted; the rest of `pcm` is context.
    level: the utterance's loud level so far (95th percentile of 25 ms RMS), linear; 0.0 = measure it in `pcm`.
    final: nothing follows this stretch.
    whole: of a recording, with all of the pieces of `EngineInfo.piece_s` that its frames lie in.
    due_s: seconds from now until the first of its pictures must be begun.
    phase: the idle frame that the utterance begins on. What differs between two equal sentences follows from it, so equal phases look the same.
    """

    start: int
    pcm: FloatArray
    first_frame: int
    n_frames: int
    phonemes: tuple[Phoneme, ...] | None = None
    level: float = 0.0
    final: bool = False
    due_s: float = 0.0
    whole: bool = False
    phase: int = 0
    first_phoneme: int = 0


@dataclass(frozen=True)
class Conditioning:
    """What the mouth should do: one row a frame. rows: (n, ...) of the engine's own shape; is_speaking: bool (n,).

    A frame that is not speaking shows the background itself and costs no model time.
    """

    first_frame: int
    rows: NDArray[Any]
    is_speaking: BoolArray


@dataclass(frozen=True)
class AvatarRef:
    """An immutable prepared avatar: its id and the version that its content gives it."""

    id: str
    version: str


@dataclass(frozen=True)
class PreparationProgress:
    """How far the preparation of an avatar is. step: what goes on now; done: 0..1, of the whole."""

    step: str
    done: float


@dataclass(frozen=True)
class RenderRequest:
    """Up to one segment of frames to draw. Stateless and idempotent: any replica may answer it, twice if need be.

    background: numbers (n,) of the avatar's background frames; rows: (n, ...) conditioning.
    first: somebody waits for the first picture of an utterance; such requests are batched among themselves, ahead of what is only due later.
    due_s: seconds from now until the viewer needs the first of these frames; whoever runs dry first is drawn first.
    """

    avatar: AvatarRef
    background: tuple[int, ...]
    rows: NDArray[Any]
    utterance: str = ""
    first: bool = False
    due_s: float = 0.0

    @property
    def n_frames(self) -> int:
        return len(self.background)


@dataclass(frozen=True)
class RenderedCrops:
    """crops: I420 uint8 (n, h * 3 // 2, w): the avatar's box for that engine or, where the avatar has face boxes, the face at the engine's own size.

    render_ms: time in the engine for this request's share of its batch.
    """

    crops: ByteArray
    render_ms: float = 0.0
    queue_ms: float = 0.0
    batch_frames: int = 0


@dataclass(frozen=True)
class EngineInfo:
    """A lip-sync engine: what runs, and why. context_s / lookahead_s: how much speech before / after a frame `listen`
    wants to see.

    fade_frames: frames over which the composer blends drawn crops in when speech begins and out when it ends; 0 = the engine sees to that itself.
    batches: whether drawing many frames by one call is faster than one after the other.
    piece_s: of a recording, which is all there, `listen` wants to see the whole pieces of so many seconds that its frames lie in; 0 = no more
        of it than of speech that is still arriving.
    """

    name: str
    reason: str
    version: str
    device: str
    context_s: float
    lookahead_s: float
    details: dict[str, Any] = field(default_factory=dict)
    fade_frames: int = 0
    batches: bool = False
    piece_s: float = 0.0


@dataclass(frozen=True)
class SpeechInfo:
    """What speaks, and why. version: another one whenever the same text may sound otherwise. offline: the voices that
    need no network.

    model, on_error: of the provider, where one is configured: its model, and what happens when it fails.
    natural: whether downloaded voices speak, and why, in words.
    """

    engine: Literal["offline", "openai"]
    reason: str
    version: str
    offline: tuple[str, ...] = ()
    model: str | None = None
    on_error: str | None = None
    natural: str = ""


@dataclass(frozen=True)
class ServiceInfo:
    """What runs in the graph. capacity: how many streams it draws in time, by how many replicas; empty while nobody knows."""

    lipsync: EngineInfo
    speech: SpeechInfo
    capacity: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Box:
    """A rectangle in the picture, in pixels; all four numbers even, so that chroma planes cut cleanly."""

    x: int
    y: int
    w: int
    h: int


@dataclass(frozen=True)
class ArrivingSound:
    """Speech that is sent while it is made, by calls of their own: samples of 16 bits, mono, at `rate` Hz. name: another one for each stream."""

    name: str
    rate: int


@dataclass(frozen=True)
class SoundPiece:
    """Some of it. start: samples before it. pcm: little-endian int16. final: no more comes. follows: the `ArrivingSound` that it belongs to."""

    follows: str
    start: int
    pcm: bytes
    final: bool = False


@dataclass(frozen=True)
class VideoRequest:
    """One utterance to film, validated. Exactly one of `speech` (text to synthesise), `audio` (an encoded file's bytes) and `arriving` is set.

    paced: send at most the configured lead ahead of real time (a live viewer); False = as fast as it goes (a file).
    phase: number of the idle-loop frame on which the utterance starts; `museserve.pipeline.idle_phase` tells which
    frames follow.
    keep: put the finished fragments into the cache, although the text was not asked for before.
    text_track: put captions into the finished film.
    first_frame: a multiple of SEGMENT_FRAMES. Somebody received the frames before it already: they are neither drawn nor
    encoded. Frames, decode times, phase and words count from the utterance's start all the same; the first fragment has
    all words so far. At or beyond the end: one empty final fragment.
    begun: it goes on with what somebody watches already, so it is not refused for want of room, as with a first_frame.
    claimed: that is so by the word of the client alone, so it may still be refused.
    session: the conversation that it is part of, if any.
    tenant: who it is made for; the cache gives nobody what another one asked for.
    rendition: 0 the full one; each higher one has fewer bytes, for slow lines. Only the full one is kept.
    """

    utterance: str
    avatar: str
    speech: SpeechRequest | None = None
    audio: bytes | None = None
    arriving: ArrivingSound | None = None
    paced: bool = True
    phase: int = 0
    keep: bool = False
    text_track: bool = False
    first_frame: int = 0
    begun: bool = False
    claimed: bool = False
    session: str = ""
    tenant: str = ""
    rendition: int = 0

    @property
    def ids(self) -> CallIds:
        return CallIds(self.utterance, self.session)

    @property
    def leads(self) -> str:
        """What calls that must reach the same replica say in `follows`; empty where there are none."""
        return "" if self.arriving is None else self.arriving.name


CacheHit = Literal["no", "speech", "segments"]  # how much of an utterance came out of the cache


@dataclass(frozen=True)
class FragmentHead:
    """What is known of a video when its first fragment is there.

    codecs: what Media Source Extensions want to know. timings_ms: from the request to the first result of each stage.
    speech_engine: the voice that spoke; notice: why, when it is not the one that was asked for.
    """

    codecs: str
    timings_ms: dict[str, float]
    speech_engine: str = ""
    notice: str = ""
    cached: CacheHit = "no"


@dataclass(frozen=True)
class Fragment:
    """One piece of the streamed video, in order. data: moof + mdat; on the first piece, the init segment (ftyp + moov) comes before it.

    words: those that became known since the piece before. total_frames: of the whole utterance, once its last speech
    is there, else None; no more words come then. head: on the first fragment only.
    n_frames: 0 only where `VideoRequest.first_frame` lies at or beyond the end; `data` is then the init segment alone.
    key: the first picture is a key frame: what was before it need not be there.
    """

    data: bytes
    first_frame: int
    n_frames: int
    words: tuple[Word, ...] = ()
    total_frames: int | None = None
    head: FragmentHead | None = None
    key: bool = False

    @property
    def words_final(self) -> bool:
        """No more words come."""
        return self.total_frames is not None

    @property
    def final(self) -> bool:
        """No more fragments come."""
        return self.total_frames == self.first_frame + self.n_frames


@dataclass(frozen=True)
class FilmHead:
    """What is known of a finished video; its bytes follow."""

    fragments: FragmentHead
    words: tuple[Word, ...]

"""The language of `WS /v1/sessions`: every message as a strict model, the header of binary frames, and the close codes.

`schema()` makes the published JSON schema from these models; docs/sessions.md tells how a conversation goes. No Ray, no HTTP.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, TypeAdapter, ValidationError, WithJsonSchema, model_validator
from pydantic.json_schema import models_json_schema

from deployments.ingress.sessions.live_sound import Rate
from museserve.errors import RequestError
from museserve.timebase import SEGMENT_FRAMES

ID_PATTERN = r"^[A-Za-z0-9_.:\-]{1,64}$"

UtteranceId = Annotated[str, Field(pattern=ID_PATTERN, description="names an utterance; unique in its session")]
Phase = Annotated[int, Field(ge=0, le=65_535, description="number of a frame of the idle loop; taken modulo its length")]
Speed = Annotated[float, Field(ge=0.25, le=4)]


def _written(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a string is wanted")
    return value


# A script may cut its text between the two halves of a pair of surrogates; pydantic's own string refuses a half.
Written = Annotated[str, PlainValidator(_written), WithJsonSchema({"type": "string"})]


class CloseCode(IntEnum):
    """Why the server closed. `RESUMABLE` says after which of them `resume` may be tried."""

    NORMAL = 1000  # the client asked for it with `end`
    GOING_AWAY = 1001  # the service stops; start anew, perhaps elsewhere
    TOO_BIG = 1009  # one message was longer than limits.message_bytes
    FAILED = 1011  # the service failed on this session; start anew
    RESTART = 1012  # this part of the service is being stopped: start anew, which reaches another one
    BAD_START = 4000  # the first message was no valid `start` or `resume`
    START_TIMEOUT = 4001  # no `start` or `resume` came in time
    SILENT = 4002  # no message came for limits.silent_s: the connection is taken for dead
    EXPIRED = 4003  # nothing was said for limits.idle_s, or the session is older than limits.session_s
    UNKNOWN_SESSION = 4004  # there is no such session here, or no longer: start anew
    BAD_TOKEN = 4005  # the token does not belong to the session
    REPLACED = 4006  # another connection resumed this session; do not reconnect
    SLOW = 4007  # what was sent was not acknowledged in time
    FLOOD = 4008  # far more messages than limits.messages_per_s
    ORIGIN = 4009  # the page is of another origin than the service, and not of one in server.cors_origins
    UNAUTHORIZED = 4010  # no key or token, or none that is valid; a fresh token may be
    FORBIDDEN = 4011  # the key or token is not for this
    BUSY = 4013  # as many sessions as this service takes; try again later


RESUMABLE = frozenset({1005, 1006, CloseCode.SILENT, CloseCode.SLOW})


class ClientMessage(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Start(ClientMessage):
    """Begins a session; the first message, unless the same fields were given as query parameters."""

    type: Literal["start"] = "start"
    avatar: str | None = Field(None, description="id of an avatar, or man / woman; the configured one when absent")
    voice: str = Field("auto", description="a voice of GET /v1/voices; auto = one that fits the avatar")
    speed: Speed = 1.1
    language: str = Field("auto", description="BCP 47 tag, or auto = seen from the text")
    captions: bool = Field(True, description="send `words`")
    resumable: bool = Field(True, description="keep what is sent until it is acknowledged, so that the session survives a lost connection")


class Resume(ClientMessage):
    """Goes on with a session after its connection was lost; the first message, or query parameters."""

    type: Literal["resume"] = "resume"
    session: str = Field(max_length=80)
    token: str = Field(max_length=80)
    seq: int = Field(ge=0, description="number of the last message that was received; what came after it is sent again")


Count = Annotated[int, Field(ge=0, le=10_000_000)]


class SpokenPart(BaseModel):
    """A stretch of an utterance that was made in one go, and what it takes to make the same again. A client gives it back as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    first_frame: Count = Field(description="of the utterance, where the part begins", multiple_of=SEGMENT_FRAMES)
    phase: Phase = Field(description="the idle frame that its first picture is drawn on")
    chars: tuple[Count, Count] | None = Field(None, description="[from, to): which characters of all text that came it speaks; none of a recording")
    first_word: Count = Field(description="words of the utterance before it")
    first_cue: Count = Field(description="cues of the utterance before it")
    sound_ms: Count | None = Field(None, description="where in the sound it begins, of an utterance with `pcm`")

    @model_validator(mode="after")
    def _forward(self) -> SpokenPart:
        if self.chars is not None and self.chars[0] >= self.chars[1]:
            raise ValueError(f"chars are from and to, got {list(self.chars)}")
        return self


class Received(BaseModel):
    """What was received of an utterance in an earlier session: it goes on after that."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    frames: Count = Field(description="from its beginning, without a gap, in whole segments", multiple_of=SEGMENT_FRAMES)
    part: SpokenPart = Field(description="the last `part` that came of it")

    @model_validator(mode="after")
    def _in_its_part(self) -> Received:
        if self.part.first_frame > self.frames:
            raise ValueError(f"the part begins at frame {self.part.first_frame}, behind the {self.frames} frames that were received")
        return self


class Speak(ClientMessage):
    """An utterance. Exactly one of `text`, `deltas`, `audio` and `pcm`. Utterances play in the order in which they were announced."""

    type: Literal["speak"] = "speak"
    id: UtteranceId | None = None
    text: Written | None = Field(None, description="all of the text")
    deltas: Literal[True] | None = Field(None, description="the text comes piece by piece in `text` messages")
    audio: Literal[True] | None = Field(None, description="recorded speech comes in binary frames, then `audio_end`: wav, mp3, m4a, ogg, webm, flac")
    pcm: Rate | None = Field(
        None, description="speech comes in binary frames while it is made, then `audio_end`: 16-bit little-endian mono samples at so many Hz"
    )
    phase: Phase | None = Field(
        None, description="the idle frame that the first picture shall be drawn on; ignored when the utterance follows another one directly"
    )
    voice: str | None = Field(None, description="for this utterance; absent = the session's")
    speed: Speed | None = None
    language: str | None = None
    rendition: int = Field(
        0, ge=0, le=2, description="of the pictures: 0 = the full one; 1 and 2 have fewer bytes, for a line that is slower than speech"
    )
    interrupt: bool = Field(False, description="interrupt all that is queued or playing first, as `interrupt` does")
    received: Received | None = Field(
        None, description="takes over what an earlier session had begun to speak; give it all of its text or sound again"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Speak:
        given = [name for name in ("text", "deltas", "audio", "pcm") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of text, deltas, audio and pcm; got {' and '.join(given) or 'none'}")
        if self.received is not None:
            self._fits(self.received.part)
        return self

    def _fits(self, part: SpokenPart) -> None:
        """Raises ValueError when what was received is not of an utterance like this one."""
        if (part.sound_ms is None) != (self.pcm is None):
            raise ValueError("received.part has sound_ms where the utterance has pcm, and only there")
        if self.pcm:
            if part.chars is not None or part.first_word or part.first_cue:
                raise ValueError("received.part is of a text, and this is sound")
            return
        if self.deltas:
            if part.chars is None:
                raise ValueError("received.part is of a recording, and this is text")
            return
        whole = None if self.text is None else (0, len(self.text))
        if part.chars != whole or part.first_frame or part.first_word or part.first_cue:
            kind = "a recording has one part, without chars" if whole is None else f"a text of {whole[1]} characters has one part, with all of them"
            raise ValueError(f"received.part is not of this utterance: {kind}, from frame 0")


class Text(ClientMessage):
    """More text of an utterance that was announced with `deltas`."""

    type: Literal["text"] = "text"
    id: UtteranceId
    delta: Written = ""
    flush: bool = Field(False, description="speak what is there now, even in the middle of a sentence")
    final: bool = Field(False, description="no more text comes; implies flush")
    phase: Phase | None = Field(None, description="where speech shall join if the utterance is waiting for text; see `waiting`")


class AudioEnd(ClientMessage):
    """The recorded speech of an utterance, or its sound, is complete."""

    type: Literal["audio_end"] = "audio_end"
    id: UtteranceId
    phase: Phase | None = None


class Interrupt(ClientMessage):
    """Stop speaking. Without `id`: everything that is playing or queued; with it: that utterance alone."""

    type: Literal["interrupt"] = "interrupt"
    id: UtteranceId | None = None


class State(ClientMessage):
    """What the person's side of the conversation is at. The picture is the idle loop in both."""

    type: Literal["state"] = "state"
    state: Literal["listening", "thinking"]


class Ping(ClientMessage):
    type: Literal["ping"] = "ping"
    t: float | None = Field(None, allow_inf_nan=False, description="given back as it is")


class Ack(ClientMessage):
    """All messages up to `seq` were received. At least once a second while fragments come. Not answered."""

    type: Literal["ack"] = "ack"
    seq: int = Field(ge=0)


class Played(ClientMessage):
    """How much of an utterance was shown by now. Not answered. What was said last, `interrupted` tells as a position."""

    type: Literal["played"] = "played"
    id: UtteranceId
    frames: Count = Field(description="from its beginning")
    phase: Phase | None = Field(None, description="where speech shall join if the utterance is waiting for sound; see `waiting`")


class Stats(ClientMessage):
    """Quality of experience since the last `stats`; added to the service's metrics. All counts, times in milliseconds."""

    type: Literal["stats"] = "stats"
    first_frame_ms: tuple[float, ...] = Field((), max_length=64, description="speak -> first speaking picture painted, one an utterance")
    interrupt_ms: tuple[float, ...] = Field((), max_length=64, description="interrupt -> silent")
    dry_outs: int = Field(0, ge=0, le=100_000)
    dry_ms: float = Field(0, ge=0, le=86_400_000, description="time without a picture")
    late_segments: int = Field(0, ge=0, le=100_000, description="idle segments put into the middle of an utterance")
    dropped_frames: int = Field(0, ge=0, le=10_000_000)
    painted_frames: int = Field(0, ge=0, le=10_000_000)
    reconnects: int = Field(0, ge=0, le=100_000)


class End(ClientMessage):
    """Ends the session; the server closes with 1000."""

    type: Literal["end"] = "end"


First = Annotated[Start | Resume, Field(discriminator="type")]
Later = Annotated[Speak | Text | AudioEnd | Interrupt | State | Ping | Ack | Played | Stats | End, Field(discriminator="type")]
CLIENT_MODELS: tuple[type[ClientMessage], ...] = (Start, Resume, Speak, Text, AudioEnd, Interrupt, State, Ping, Ack, Played, Stats, End)


class ServerMessage(BaseModel):
    """seq: one counter over all messages of a session, binary ones too, from 1; 0 for what belongs to a connection and is never sent again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seq: int = Field(0, ge=0)


class Idle(BaseModel):
    """The idle loop that the client plays by itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(description="GET: a JSON index, the init segment and every idle segment in one response; immutable")
    frames: int = Field(description="length of the loop")
    segments: int
    first_bytes: int | None = Field(None, description="of that response, in which the first three segments are, for a player that shall live soon")


class Media(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    codecs: str = Field(description="for isTypeSupported, after video/mp4; codecs=")
    width: int
    height: int
    fps: int
    segment_frames: int
    audio_rate: int


class Limits(BaseModel):
    """What this service accepts; seconds and bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    queued_utterances: int
    message_bytes: int
    messages_per_s: float
    text_chars: int
    audio_bytes: int
    audio_s: float
    window_bytes: int = Field(description="sent and not acknowledged; when it is full, no more is sent")
    heartbeat_s: float = Field(description="send a ping at least this often")
    silent_s: float = Field(description="a connection that sends nothing for so long is closed")
    resume_s: float = Field(description="a session without a connection is kept for so long")
    idle_s: float = Field(description="a session in which nothing is said for so long ends")
    session_s: float = Field(description="a session ends after so long")


class Engine(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    reason: str


class Ready(ServerMessage):
    """The first message of every connection; the same again after `resume`, with `resumed`."""

    type: Literal["ready"] = "ready"
    session: str
    token: str = Field(description="for `resume`; keep it secret")
    resumed: bool = False
    avatar: str
    avatar_version: str
    voice: str
    lips: Engine
    speech: Engine
    notices: tuple[str, ...] = Field((), description="what is not as it was asked for")
    idle: Idle
    media: Media
    limits: Limits
    queue: tuple[str, ...] = Field((), description="utterances that are queued or being spoken, in order")
    digital_source_type: str = Field(description="what the pictures and the sound are, by IPTC's vocabulary: generated")


class Queued(ServerMessage):
    """The answer to `speak`."""

    type: Literal["queued"] = "queued"
    id: str
    n: int = Field(description="the utterance's number, as in the header of its fragments")
    ahead: int = Field(description="utterances before it")


class Accepted(ServerMessage):
    """The answer to `text`, `audio_end`, `state` and `stats`."""

    type: Literal["accepted"] = "accepted"
    what: Literal["text", "audio_end", "state", "stats"]
    id: str | None = None
    pending_chars: int | None = Field(None, description="after `text`: characters that wait for the end of their sentence")


class Started(ServerMessage):
    """A run of fragments begins, without a gap until `waiting`, `finished` or `interrupted`. Most utterances are one run. One that is taken over
    begins with one.

    Frame f of the utterance is drawn on idle frame (grid + f) modulo the loop's length, from the run's second segment on. In its first segment the
    idle loop is played a little faster or slower, from `phase` to the grid.
    """

    type: Literal["started"] = "started"
    id: str
    n: int
    first_frame: int = Field(description="0, or where the utterance goes on, after `waiting` or in this session; a multiple of segment_frames")
    phase: int = Field(description="the idle frame that the run's first picture is drawn on")
    grid: int
    cached: Literal["no", "speech", "segments"]
    speech_engine: str
    notice: str = ""
    timings_ms: dict[str, float] = Field(description="from the moment the work began to the first result of each stage")


class Part(ServerMessage, SpokenPart):
    """Where the fragments that follow come from. The last one goes into `received` when another session takes the utterance over."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["part"] = "part"
    id: str
    n: int


class WordTime(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str
    start_ms: int
    end_ms: int
    estimated: bool = False


class CueLines(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


class Words(ServerMessage):
    """Captions, media times from the utterance's first frame. Sent before the sound they belong to, where the voice knows its times."""

    type: Literal["words"] = "words"
    id: str
    n: int
    first_word: int = Field(description="number of the first of `words`: they replace all words of the utterance from there on")
    words: tuple[WordTime, ...] = Field(description="those that became known")
    first_cue: int = Field(description="`cues` replaces all cues of the utterance from this number on")
    cues: tuple[CueLines, ...]
    final: bool = Field(False, description="no more words come")


class Waiting(ServerMessage):
    """All that came is spoken and more was announced: play idle after `frames`, beginning with idle frame `phase`; then `started` comes again."""

    type: Literal["waiting"] = "waiting"
    id: str
    n: int
    frames: int
    phase: int
    sound_ms: int | None = Field(None, description="how much of the sound is spoken, of an utterance with `pcm`")


class Delayed(ServerMessage):
    """The service is full. The utterance keeps its place in the queue and is tried again in so long, for a minute or as configured."""

    type: Literal["delayed"] = "delayed"
    id: str
    n: int
    retry_after_s: float


class Finished(ServerMessage):
    """The last fragment of the utterance was sent before this."""

    type: Literal["finished"] = "finished"
    id: str
    n: int
    frames: int
    phase: int = Field(description="the idle frame that follows; a multiple of segment_frames")
    sound_ms: int | None = Field(None, description="length of the sound, of an utterance with `pcm`")


class Manifest(ServerMessage):
    """After `finished`, where the service signs: the C2PA manifest of the utterance's stream, which is the idle loop's init segment and all its
    fragments in order, without their headers. Not of one that was taken over."""

    type: Literal["manifest"] = "manifest"
    id: str
    n: int
    c2pa: str = Field(description="base64")


class Interrupted(ServerMessage):
    """No fragment of this utterance follows. Answers `interrupt`, one message for each utterance that was stopped."""

    type: Literal["interrupted"] = "interrupted"
    id: str
    n: int
    frames: int = Field(description="frames that were sent")
    played_ms: int = Field(description="how far it was played: with `pcm` in the sound that was sent, else in the utterance, as `words` counts")
    played_told: bool = Field(description="by the last `played`; else as if what was sent had been played at once")
    by: Literal["client", "error", "end"] = "client"


class NothingToInterrupt(ServerMessage):
    """Answers an `interrupt` that found nothing to stop: the utterance is finished or unknown, or nothing was queued."""

    type: Literal["nothing_to_interrupt"] = "nothing_to_interrupt"
    id: str | None = None
    reason: Literal["finished", "unknown", "nothing_queued"]
    played_ms: int | None = Field(None, description="of the last that was finished, as in `interrupted`: it may have been playing still")
    played_told: bool | None = None


class Failure(ServerMessage):
    """A message that was not accepted, or an utterance that failed; the session goes on. `id`: the utterance, where it is known."""

    type: Literal["error"] = "error"
    code: str
    message: str = Field(description="what was seen and what is accepted")
    id: str | None = None
    retry_after_s: float | None = None
    closing: int | None = Field(None, description="the close code that follows, when the connection is closed because of it")


class Moving(ServerMessage):
    """This part of the service is being stopped, and the session with it. Begin anew on a second connection, take over, then `end` this one."""

    type: Literal["moving"] = "moving"
    within_s: float = Field(description="the connection is closed with 1012 after so long")


class Pong(ServerMessage):
    type: Literal["pong"] = "pong"
    t: float | None = None


SERVER_MODELS: tuple[type[ServerMessage], ...] = (
    Ready,
    Queued,
    Accepted,
    Started,
    Part,
    Words,
    Waiting,
    Delayed,
    Finished,
    Manifest,
    Interrupted,
    NothingToInterrupt,
    Failure,
    Moving,
    Pong,
)


class FrameFlag(IntFlag):
    """Bits of the header of a binary frame."""

    STARTS = 1  # first fragment of a run
    ENDS = 2  # last fragment of the utterance
    INIT = 4  # an init segment stands before the moof, because it is not the idle loop's
    KEY = 8  # begins with a key frame: it can be shown without the fragments before it


# Network byte order: version, flags, frames in the fragment, sequence number, utterance number, first frame, idle frame under it, reserved.
HEADER = struct.Struct(">BBHIIIHH")
HEADER_VERSION = 1


@dataclass(frozen=True)
class FrameHeader:
    """The 20 bytes in front of the fragment in every binary frame of the server. `first_frame` counts from the utterance's start."""

    seq: int
    n: int
    first_frame: int
    n_frames: int
    phase: int
    flags: FrameFlag = FrameFlag(0)

    def pack(self) -> bytes:
        return HEADER.pack(HEADER_VERSION, self.flags, self.n_frames, self.seq, self.n, self.first_frame, self.phase, 0)

    @classmethod
    def unpack(cls, data: bytes) -> FrameHeader:
        """Raises ValueError when `data` does not begin with a header of this version."""
        if len(data) < HEADER.size or data[0] != HEADER_VERSION:
            raise ValueError(f"not a frame of version {HEADER_VERSION}: {data[:1].hex() or 'empty'}, {len(data)} bytes")
        _, flags, n_frames, seq, n, first_frame, phase, _ = HEADER.unpack_from(data)
        return cls(seq, n, first_frame, n_frames, phase, FrameFlag(flags))


_FIRST: TypeAdapter[Any] = TypeAdapter(First)
_LATER: TypeAdapter[Any] = TypeAdapter(Later)


def parse_first(text: str | bytes) -> Start | Resume:
    """The first message of a connection. Raises RequestError."""
    message: Start | Resume = _parse(_FIRST, text)
    return message


def parse(text: str | bytes) -> ClientMessage:
    """Any later message. Raises RequestError naming every field that is wrong."""
    message: ClientMessage = _parse(_LATER, text)
    return message


def parse_query(query: dict[str, str]) -> Start | Resume | None:
    """`start` or `resume` from the query parameters of the handshake; None when there are none. Raises RequestError."""
    if not query:
        return None
    kind = query.get("type") or ("resume" if "session" in query else "start")
    try:
        message: Start | Resume = _FIRST.validate_strings({**query, "type": kind})
    except ValidationError as error:
        raise RequestError(_faults(error)) from None
    return message


def message_schemas(ref_template: str = "#/$defs/{model}") -> tuple[list[Any], list[Any], dict[str, Any]]:
    """References to the client's messages and to the server's, and the definitions by name."""
    both: list[Any] = [(model, "validation") for model in CLIENT_MODELS] + [(model, "serialization") for model in SERVER_MODELS]
    refs, made = models_json_schema(both, ref_template=ref_template)
    client = [refs[(model, "validation")] for model in CLIENT_MODELS]
    server = [refs[(model, "serialization")] for model in SERVER_MODELS]
    return client, server, made["$defs"]


def schema() -> dict[str, Any]:
    """JSON schema (2020-12) of every message, by direction, with the close codes and the header's layout."""
    client, server, definitions = message_schemas()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "WS /v1/sessions",
        "client": {"oneOf": client},
        "server": {"oneOf": server},
        "binary_header": {
            "byte_order": "network",
            "bytes": HEADER.size,
            "fields": ["u8 version = 1", "u8 flags", "u16 n_frames", "u32 seq", "u32 n", "u32 first_frame", "u16 phase", "u16 reserved"],
            "flags": {flag.name: flag.value for flag in FrameFlag},
        },
        "close_codes": {code.name: code.value for code in CloseCode},
        "resumable_close_codes": sorted(RESUMABLE),
        "$defs": definitions,
    }


def _parse(adapter: TypeAdapter[Any], text: str | bytes) -> Any:
    try:
        fields = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the message is not JSON: {str(error)[:200]}") from None
    try:
        return adapter.validate_python(fields)
    except ValidationError as error:
        raise RequestError(_faults(error)) from None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _faults(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'message'}: {e['msg']}" for e in error.errors(include_url=False, include_input=False))[:600]

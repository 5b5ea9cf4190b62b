"""What callers may send: bodies as strict models, read with a size limit, turned into what the graph takes. Nothing here does media work."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.types import Message

from configs.models import AppConfig, LimitsConfig
from museserve.errors import MediaPathError, PayloadTooLargeError, RequestError
from museserve.messages import SpeechRequest, VideoRequest
from museserve.speech.request import parse_delivery, parse_speech

Model = TypeVar("Model", bound=BaseModel)


class UnsupportedMediaTypeError(RequestError):
    status = 415
    code = "unsupported_media_type"


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class VideoBody(Body):
    """`POST /v1/videos`. Exactly one of `text` and the uploaded file `audio` (multipart)."""

    text: str | None = Field(None, description="what to say")
    avatar: str | None = Field(None, description="id of an avatar; the configured default when absent")
    voice: str = Field("auto", description="a voice of `GET /v1/voices`; auto = one that fits the avatar")
    speed: float = Field(1.1, ge=0.25, le=4)
    language: str = Field("auto", description="BCP 47 tag, or auto")
    stream: bool = Field(True, description="fragmented mp4 as it is made, paced to real time; false = one finished mp4")
    captions: Literal["link", "track", "none"] = Field(
        "link", description="link = WebVTT under the response's Link header; track = also a text track in the finished mp4; none = not kept"
    )


class PrerenderBody(Body):
    """`POST /v1/prerender`: texts to have ready in the cache. A session or `POST /v1/videos` with the same voice and speed finds them there."""

    texts: list[str] = Field(min_length=1, max_length=200)
    avatar: str | None = Field(None, description="id of an avatar; the configured default when absent")
    voice: str = "auto"
    speed: float = Field(1.1, ge=0.25, le=4)
    language: str = "auto"


class SpeechBody(Body):
    """`POST /v1/audio/speech`, OpenAI's contract. `model` and `instructions` reach an OpenAI engine only through the configuration."""

    model: str = Field("tts-1", description="accepted for compatibility")
    input: str
    voice: str = "nova"
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    speed: float = Field(1.0, ge=0.25, le=4)
    instructions: str | None = None
    stream_format: Literal["audio"] = "audio"
    language: str = Field("auto", description="an extension: BCP 47 tag, or auto")


class SynthesizeBody(Body):
    """`POST /api/core/tts/synthesize/`."""

    text: str
    voice: str = "nova"
    speed: float = Field(1.1, ge=0.25, le=4)


class InterviewBody(Body):
    """`POST /api/core/interview/video/generate/`. Exactly one of `text`, `audio_path` and the uploaded file `audio`, unless `status` is idle."""

    text: str | None = None
    audio_path: str | None = Field(None, description="inside the media root")
    avatar_type: Literal["man", "woman"] = "woman"
    session_id: str | None = Field(None, max_length=200)
    status: Literal["speaking", "idle"] = "speaking"
    voice: str = "auto"
    speed: float = Field(1.1, ge=0.25, le=4)


class AvatarBody(Body):
    """`POST /v1/avatars`, multipart with exactly one of the files `image`, a portrait, and `video`, a clip."""

    id: str | None = Field(None, pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", description="derived from the name when absent")
    name: str = Field("", max_length=100)
    gender: Literal["female", "male"] = "female"


class ImageBody(Body):
    """Multipart with the file `image` and, for `/generate`, the file `audio`."""


@dataclass(frozen=True)
class Upload:
    """fields: plain values; files: whole uploads by field name."""

    fields: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


async def read_body(request: Request, limits: LimitsConfig, files: Iterable[str] = (), max_bytes: int = 0) -> Upload:
    """A JSON object, a form or a multipart body, at most `max_bytes` long, or `limits.max_body_bytes`.

    Raises:
        PayloadTooLargeError, UnsupportedMediaTypeError, RequestError: before anything is queued.
    """
    most = max_bytes or limits.max_body_bytes
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most:
        raise PayloadTooLargeError(f"the body is {int(declared):,} bytes; at most {most:,} are accepted")
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    _limit(request, most)
    if kind == "application/json":
        return Upload(_json_object(await request.body()))
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        return await _form(request, set(files))
    raise UnsupportedMediaTypeError(f"content type {kind or '(none)'!r} is not accepted; send application/json or multipart/form-data")


def parse(model: type[Model], fields: dict[str, Any]) -> Model:
    """Raises RequestError naming every field that is wrong."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors())
        raise RequestError(f"{faults}. Accepted fields: {', '.join(model.model_fields)}") from None


def speech_request(text: str, voice: str, speed: float, language: str, config: AppConfig, gender: str = "female") -> SpeechRequest:
    """Raises TextError, UnknownVoiceError, UnknownLanguageError, RequestError."""
    return parse_speech(text, parse_delivery(voice, speed, language, gender), config.speech.max_text_chars)


def exactly_one(**given: Any) -> None:
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        seen = " and ".join(named) if named else "none"
        raise RequestError(f"give exactly one of {', '.join(given)}; got {seen}")


def check_captions(captions: str, *, stream: bool, audio: bool) -> None:
    """Raises RequestError for a text track that cannot be made."""
    if captions == "track" and audio:
        raise RequestError('captions "track" needs `text`: the words of recorded speech are not known; accepted with `audio`: "link", "none"')
    if captions == "track" and stream:
        raise RequestError('captions "track" needs "stream": false: a stream\'s captions are WebVTT; accepted with a stream: "link", "none"')


def video_request(avatar: str, speech: SpeechRequest | None, audio: bytes | None, *, paced: bool, text_track: bool = False) -> VideoRequest:
    return VideoRequest(utterance=secrets.token_hex(8), avatar=avatar, speech=speech, audio=audio, paced=paced, text_track=text_track)


def read_media(name: str, limits: LimitsConfig) -> bytes:
    """The bytes of `audio_path`, which must lie inside the media root, links resolved.

    Raises:
        MediaPathError, PayloadTooLargeError
    """
    if limits.media_root is None:
        raise MediaPathError("audio_path is not accepted: no limits.media_root is configured; upload `audio` instead")
    root = limits.media_root.resolve()
    try:
        path = (root / name).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        path = None
    # One answer for missing and forbidden, so that nobody can probe what exists outside.
    if Path(name).is_absolute() or path is None or not path.is_relative_to(root) or not path.is_file():
        raise MediaPathError(f"audio_path {name!r} is not a file inside the media root; give a path relative to it")
    if path.stat().st_size > limits.max_body_bytes:
        raise PayloadTooLargeError(f"audio_path {name!r} is {path.stat().st_size:,} bytes; at most {limits.max_body_bytes:,} are accepted")
    return path.read_bytes()


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise RequestError(f"the body must be a JSON object, got {type(fields).__name__}")
    return fields


async def _form(request: Request, files: set[str]) -> Upload:
    async with request.form(max_files=4, max_fields=32) as form:
        fields: dict[str, Any] = {}
        uploads: dict[str, bytes] = {}
        for name, value in form.multi_items():
            if name in fields or name in uploads:
                raise RequestError(f"field {name!r} was sent more than once")
            if isinstance(value, UploadFile):
                if name not in files:
                    accepted = f"accepted files: {', '.join(sorted(files))}" if files else "no files are accepted here"
                    raise RequestError(f"file {name!r} is not known; {accepted}")
                uploads[name] = await value.read()
            elif name in files:
                raise RequestError(f"field {name!r} must be a file")
            else:
                fields[name] = value
    return Upload(fields, uploads)


def _limit(request: Request, limit: int) -> None:
    """Count the body as it arrives, because a chunked one declares no length."""
    receive, seen = request._receive, 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise PayloadTooLargeError(f"the body is longer than the {limit:,} bytes accepted")
        return message

    request._receive = counted

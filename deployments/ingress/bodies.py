"""What callers may send, as strict models."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from configs.models import ORIGIN
from museserve.errors import RequestError

Model = TypeVar("Model", bound=BaseModel)


def _voice_id(voice: Any) -> Any:
    """OpenAI's clients may name a voice as {"id": ...}."""
    return voice["id"] if isinstance(voice, dict) and voice.keys() == {"id"} else voice


Voice = Annotated[str, BeforeValidator(_voice_id)]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class VideoBody(Body):
    """`POST /v1/videos`. Exactly one of `text` and the uploaded file `audio` (multipart)."""

    text: str | None = Field(None, description="what to say")
    avatar: str | None = Field(None, description="id of an avatar; the configured default when absent")
    voice: Voice = Field("auto", description="a voice of `GET /v1/voices`; auto = one that fits the avatar")
    speed: float = Field(1.1, ge=0.25, le=4)
    language: str = Field("auto", description="BCP 47 tag, or auto")
    stream: bool = Field(True, description="fragmented mp4 as it is made, paced to real time, ended by an mfra box; false = one finished mp4")
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
    """`POST /v1/audio/speech`, OpenAI's contract.

    Speech is sent as it is made, but a flac once it is whole, and a wav if that takes no more than half a second: they have their
    length in front. The header of a longer wav, and of what comes as events, says "until the end" instead.
    """

    model: str = Field("tts-1", description="accepted for compatibility; the configuration says what speaks")
    input: str
    voice: Voice = Field("nova", description="a voice of `GET /v1/voices`, also as an object with its `id`")
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    speed: float = Field(1.0, ge=0.25, le=4)
    instructions: str | None = Field(None, max_length=4_096, description="how to speak, for a provider that understands it; offline voices do not")
    stream_format: Literal["audio", "sse"] = Field("audio", description="sse = events speech.audio.delta with base64, then speech.audio.done")
    language: str = Field("auto", description="an extension: BCP 47 tag, or auto")


class TranscriptionBody(Body):
    """`POST /v1/audio/transcriptions`, OpenAI's contract, multipart with the file `file`. The operator chose the model."""

    model: str | None = Field(None, max_length=200, description="accepted for OpenAI's clients, and not looked at")
    language: str | None = Field(None, pattern=r"^[a-z]{2,3}$", description="ISO 639-1")
    response_format: Literal["json"] = "json"


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


class TokenBody(Body):
    """`POST /v1/sessions/tokens`."""

    avatar: str | None = Field(None, description="the only one that it may use; all of the tenant's when absent")
    origin: str | None = Field(None, pattern=ORIGIN, description="of the pages that may use it, such as https://app.example.com; all when absent")
    seconds: int | None = Field(None, ge=5, description="how long it lets anybody in; `access.token_s` when absent, `access.token_max_s` at most")
    uses: int = Field(1, ge=1, le=100, description="sessions and videos that may be begun with it; going on with a session counts as none")


class ImageBody(Body):
    """Multipart with the file `image` and, for `/generate`, the file `audio`."""


def parse(model: type[Model], fields: dict[str, Any]) -> Model:
    """A field that is null is absent. Raises RequestError naming every field that is wrong."""
    try:
        return model.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors())
        raise RequestError(f"{faults}. Accepted fields: {', '.join(model.model_fields)}") from None


def exactly_one(**given: Any) -> None:
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        seen = " and ".join(named) if named else "none"
        raise RequestError(f"give exactly one of {', '.join(given)}; got {seen}")

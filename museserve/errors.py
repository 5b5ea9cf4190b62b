"""The error tree. One handler in `deployments/ingress/ingress.py` maps it to HTTP.

    MuseserveError
    ├── RequestError                400  the caller can mend it
    │   ├── TextError               400  empty, too long, nothing to speak
    │   ├── UnknownVoiceError       400
    │   ├── UnknownLanguageError    400
    │   ├── AudioError              400  undecodable, silent, too short, too long
    │   ├── ImageError              400  undecodable, too large, no usable face
    │   ├── ClipError               400  no video, undecodable, too short, too long, no usable face in it
    │   ├── MediaPathError          400  `audio_path` outside the media root, or missing
    │   ├── UnknownAvatarError      404
    │   ├── PayloadTooLargeError    413
    │   └── ConflictError           409  e.g. deleting a built-in avatar
    ├── BusyError                   503  limits reached; retry later
    ├── EngineError                 500  our side failed
    │   ├── EngineUnavailableError  503  an explicit engine choice cannot be met
    │   │   └── WeightsError        503  a model file is missing, cut short, damaged or of another model
    │   ├── DeviceLostError         503  the graphics card of a replica is gone; another one may answer
    │   ├── SpeechEngineError       502  the speech provider failed (401, 429, time-out, half a stream)
    │   └── RenderError             500  a segment failed on every try
    └── ConfigError                 -    bad configuration, at start only

Every error takes one message, because an exception whose `__init__` takes more does not survive the trip between
Ray processes. `code` is the stable name that callers of the API see.
"""

from __future__ import annotations


class MuseserveError(Exception):
    """Base of all errors this project raises on purpose. The message says what was seen and what is accepted."""

    status: int = 500
    code: str = "internal"
    retry_after_s: int | None = None


class RequestError(MuseserveError):
    status = 400
    code = "bad_request"


class TextError(RequestError):
    code = "bad_text"


class UnknownVoiceError(RequestError):
    code = "unknown_voice"


class UnknownLanguageError(RequestError):
    code = "unknown_language"


class AudioError(RequestError):
    code = "bad_audio"


class ImageError(RequestError):
    code = "bad_image"


class ClipError(RequestError):
    code = "bad_clip"


class MediaPathError(RequestError):
    code = "bad_audio_path"


class UnknownAvatarError(RequestError):
    status = 404
    code = "unknown_avatar"


class PayloadTooLargeError(RequestError):
    status = 413
    code = "payload_too_large"


class ConflictError(RequestError):
    status = 409
    code = "conflict"


class BusyError(MuseserveError):
    status = 503
    code = "busy"
    retry_after_s = 2


class EngineError(MuseserveError):
    status = 500
    code = "engine_failed"
    retry_after_s = 5


class EngineUnavailableError(EngineError):
    status = 503
    code = "engine_unavailable"


class WeightsError(EngineUnavailableError):
    code = "bad_weights"


class DeviceLostError(EngineError):
    status = 503
    code = "device_lost"


class SpeechEngineError(EngineError):
    status = 502
    code = "speech_engine_failed"


class RenderError(EngineError):
    code = "render_failed"


class ConfigError(MuseserveError):
    code = "bad_config"

"""The error tree. One handler in `deployments/ingress/ingress.py` maps it to HTTP.

Every error takes one message, because an exception whose `__init__` takes more does not survive the trip between
Ray processes. `code` is the stable name that callers of the API see.
"""

from __future__ import annotations

import re

PATH = re.compile(r"(?<![\w.:/])(?:/[\w.+-]+){2,}")  # absolute, of two names at least; not of a URL


class MuseserveError(Exception):
    """Base of all errors this project raises on purpose. The message says what was seen and what is accepted."""

    status: int = 500
    code: str = "internal"
    retry_after_s: int | None = None


class RequestError(MuseserveError):
    status = 400
    code = "bad_request"  # the caller can mend it


class TextError(RequestError):
    code = "bad_text"  # empty, too long, nothing to speak


class UnknownVoiceError(RequestError):
    code = "unknown_voice"


class UnknownLanguageError(RequestError):
    code = "unknown_language"


class UnspokenLanguageError(TextError):
    code = "unspoken_language"  # no voice here reads any of the text


class AudioError(RequestError):
    code = "bad_audio"  # undecodable, silent, too short, too long


class ImageError(RequestError):
    code = "bad_image"  # undecodable, too large, no usable face


class ClipError(RequestError):
    code = "bad_clip"  # no video, undecodable, too short, too long, no usable face in it


class MediaPathError(RequestError):
    code = "bad_audio_path"  # `audio_path` outside the media root, or missing


class UnknownAvatarError(RequestError):
    status = 404
    code = "unknown_avatar"


class UnauthorizedError(RequestError):
    status = 401
    code = "unauthorized"  # no key or token, or none that is valid


class ForbiddenError(RequestError):
    status = 403
    code = "forbidden"  # known, but not allowed; or of a page or host that is not


class PayloadTooLargeError(RequestError):
    status = 413
    code = "payload_too_large"


class NoTranscriptionError(RequestError):
    status = 404
    code = "no_transcription"  # no server for it is configured


class QuotaError(RequestError):
    status = 429
    code = "quota_exceeded"  # of the caller's key; with when to come again


class ConflictError(RequestError):
    status = 409
    code = "conflict"  # e.g. deleting a built-in avatar


class BusyError(MuseserveError):
    status = 503
    code = "busy"  # limits reached; retry later
    retry_after_s = 2


class EngineError(MuseserveError):
    status = 500
    code = "engine_failed"  # our side failed
    retry_after_s = 5


class EngineUnavailableError(EngineError):
    status = 503
    code = "engine_unavailable"  # an explicit engine choice cannot be met


class WeightsError(EngineUnavailableError):
    code = "bad_weights"  # a model file is missing, cut short, damaged or of another model


class StoreError(EngineError):
    status = 503
    code = "store_unavailable"  # avatars cannot be read or written just now; the log says where and why


class DeviceLostError(EngineError):
    status = 503
    code = "device_lost"  # the graphics card of a replica is gone; another one may answer


class SpeechEngineError(EngineError):
    status = 502
    code = "speech_engine_failed"  # the speech provider failed (401, 429, time-out, half a stream)


class TranscriptionError(EngineError):
    status = 502
    code = "transcription_failed"  # the server that writes down


class RenderError(EngineError):
    code = "render_failed"  # a segment failed on every try


class ConfigError(MuseserveError):
    code = "bad_config"  # at start only


def without_paths(error: MuseserveError) -> MuseserveError:
    """The same error, with the names of files instead of where they lie: that is for the log alone."""
    said = PATH.sub(lambda path: path[0].rsplit("/", 1)[1], str(error))
    if said == str(error):
        return error
    told = type(error)(said)
    told.retry_after_s = error.retry_after_s
    return told

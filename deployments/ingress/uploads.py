"""Bodies as they are read: JSON objects, forms and files. Nothing here does media work."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from configs.models import LimitsConfig
from museserve.errors import MediaPathError, PayloadTooLargeError, RequestError


class UnsupportedMediaTypeError(RequestError):
    status = 415
    code = "unsupported_media_type"


@dataclass(frozen=True)
class Upload:
    """fields: plain values; files: whole uploads by field name."""

    fields: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def file(self, name: str) -> bytes:
        """Raises RequestError when it was not sent."""
        if name not in self.files:
            raise RequestError(f"the file {name!r} is missing; send multipart/form-data with it")
        return self.files[name]


async def read_body(request: Request, files: Iterable[str] = ()) -> Upload:
    """A JSON object, a form or a multipart body. files: names of those that are accepted.

    Raises:
        UnsupportedMediaTypeError, RequestError: before anything is queued. PayloadTooLargeError: as `BodyLimit`
        raises it.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "application/json":
        return Upload(_json_object(await request.body()))
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        return await _form(request, set(files))
    raise UnsupportedMediaTypeError(f"content type {kind or '(none)'!r} is not accepted; send application/json or multipart/form-data")


def read_media(name: str, limits: LimitsConfig, tenant: str = "") -> bytes:
    """The bytes of `audio_path`, absolute or relative to the media root, in which it must lie, links resolved.

    A tenant has a folder of its name in it.

    Raises:
        MediaPathError, PayloadTooLargeError
    """
    if limits.media_root is None:
        raise MediaPathError("audio_path is not accepted: no limits.media_root is configured; upload `audio` instead")
    root = (limits.media_root / tenant).resolve()
    try:
        path = (root / name).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        path = None
    # One answer for missing and forbidden, so that nobody can probe what exists outside.
    if path is None or not path.is_relative_to(root) or not path.is_file():
        raise MediaPathError(f"audio_path {name!r} is not a file inside the media root; give a path in it, or relative to it")
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


class _Parts(MultiPartParser):
    """The parts of a multipart body. One that is named as a file is one, also where its sender gives it no `filename`, as Node does
    for a buffer, or `filename*` alone."""

    def __init__(self, request: Request, stream: AsyncGenerator[bytes, None], files: set[str]) -> None:
        super().__init__(request.headers, stream, max_files=4, max_fields=32)
        self._names = {name.encode() for name in files}

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._current_part.content_disposition)
        if b"filename" not in options and options.get(b"name") in self._names:
            self._current_part.content_disposition = (self._current_part.content_disposition or b"") + b'; filename=""'
        super().on_headers_finished()


@asynccontextmanager
async def _parsed(request: Request, files: set[str]) -> AsyncIterator[FormData]:
    if request.headers["content-type"].split(";")[0].strip().lower() != "multipart/form-data":
        async with request.form(max_fields=32) as form:
            yield form
        return
    try:
        async with aclosing(request.stream()) as stream:
            form = await _Parts(request, stream, files).parse()
    except MultiPartException as error:
        raise RequestError(error.message) from None
    try:
        yield form
    finally:
        await form.close()


async def _form(request: Request, files: set[str]) -> Upload:
    async with _parsed(request, files) as form:
        fields: dict[str, Any] = {}
        uploads: dict[str, bytes] = {}
        for name, value in form.multi_items():
            if name in fields or name in uploads:
                raise RequestError(f"field {name!r} was sent more than once")
            if name.startswith("{"):
                raise RequestError("the body is JSON, and its Content-Type says that it is a form; send Content-Type: application/json")
            if value == "" or (isinstance(value, UploadFile) and not value.filename and not value.size):
                continue  # browsers send a field that was left empty, too
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

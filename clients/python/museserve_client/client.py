"""museserve over HTTP and WebSocket."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Literal, cast
from urllib.parse import urljoin

import aiohttp

from museserve_client.errors import ServiceError, UnreachableError
from museserve_client.messages import Ready
from museserve_client.session import Notice, Session

STREAM_END = bytes.fromhex("000000186d667261000000106d66726f0000000000000018")
SILENCE_S = 120.0  # after which an answer that has begun is given up
CONNECT_S = 10.0
SpeechFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]


class Client:
    """One service. `async with Client("http://127.0.0.1:8001", key=None) as client`, or `aclose` at the end.

    key: of a service that asks for one, or a session token. http: a session to use instead of an own one; it is left open.
    """

    def __init__(self, url: str, key: str | None = None, *, http: aiohttp.ClientSession | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"the url of a service begins with http:// or https://, got {url!r}")
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http, self._own = http, http is None

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        if self._own and self._http is not None:
            await self._http.close()

    async def speak(
        self, text: str, *, voice: str = "nova", format: SpeechFormat = "mp3", speed: float = 1.0, language: str = "auto"
    ) -> AsyncGenerator[bytes, None]:
        """The sound alone, as it is made. pcm: 24 kHz, 16-bit little-endian mono. Raises ServiceError, UnreachableError."""
        body = {"model": "tts-1", "input": text, "voice": voice, "response_format": format, "speed": speed, "language": language}
        async with self._answer("POST", "/v1/audio/speech", json=body) as answer:
            async for piece in answer.content.iter_any():
                yield piece

    @asynccontextmanager
    async def stream(
        self,
        text: str | None = None,
        *,
        audio: bytes | None = None,
        avatar: str | None = None,
        voice: str = "auto",
        speed: float = 1.1,
        language: str = "auto",
    ) -> AsyncIterator[VideoStream]:
        """A streamed video of exactly one of text and audio (a recording: wav, mp3, m4a, ogg, webm, flac). Raises ServiceError, UnreachableError."""
        if (text is None) == (audio is None):
            raise ValueError("give exactly one of text and audio")
        asked = {"text": text, "avatar": avatar, "voice": voice, "speed": speed, "language": language, "stream": True}
        fields = {name: value for name, value in asked.items() if value is not None}
        given: dict[str, Any] = {"json": fields}
        if audio is not None:
            form = aiohttp.FormData()
            for name, value in fields.items():
                form.add_field(name, str(value).lower() if isinstance(value, bool) else str(value))
            form.add_field("audio", audio, filename="audio", content_type="application/octet-stream")
            given = {"data": form}
        async with self._answer("POST", "/v1/videos", **given) as answer:
            yield VideoStream(answer)

    def session(
        self,
        avatar: str | None = None,
        *,
        voice: str = "auto",
        speed: float = 1.1,
        language: str = "auto",
        captions: bool = True,
        on_notice: Callable[[Notice], None] | None = None,
        on_ready: Callable[[Ready], None] | None = None,
    ) -> Session:
        """A live session, to be used as `async with`.

        on_notice: called with what becomes of the connection. on_ready: called when a session begins, and again after each resume.
        """
        start = {"avatar": avatar, "voice": voice, "speed": speed, "language": language, "captions": captions}
        return Session(self._dial, {name: value for name, value in start.items() if value is not None}, on_notice, on_ready)

    async def avatars(self) -> list[dict[str, Any]]:
        """What the service knows of each. Raises ServiceError, UnreachableError."""
        return list((await self.json("/v1/avatars"))["data"])

    async def voices(self) -> list[dict[str, Any]]:
        return list((await self.json("/v1/voices"))["data"])

    async def json(self, path: str) -> Any:
        """GET. Raises ServiceError, UnreachableError."""
        return json.loads(await self.bytes(path))

    async def bytes(self, path: str, first: int = 0, end: int | None = None) -> bytes:
        """GET, all of it or bytes [first, end) where the service answers ranges. Raises ServiceError, UnreachableError."""
        headers = {"Range": f"bytes={first}-{'' if end is None else end - 1}"} if first or end is not None else {}
        async with self._answer("GET", path, headers=headers) as answer:
            data = await answer.read()
            return data if answer.status == 206 else data[first:end]

    async def _dial(self) -> aiohttp.ClientWebSocketResponse:
        timeout = aiohttp.ClientWSTimeout(ws_close=1.0)  # type: ignore[call-arg,unused-ignore]
        socket: Any = await self._session.ws_connect(f"{self.url}/v1/sessions", headers=self._headers, max_msg_size=0, timeout=timeout)
        return cast(aiohttp.ClientWebSocketResponse, socket)

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_read=SILENCE_S))
        return self._http

    @asynccontextmanager
    async def _answer(self, method: str, path: str, headers: Mapping[str, str] | None = None, **given: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with self._session.request(method, urljoin(self.url + "/", path), headers={**self._headers, **(headers or {})}, **given) as answer:
                if answer.status >= 400:
                    raise await _refusal(answer)
                yield answer
        except aiohttp.ClientError as error:
            raise UnreachableError(f"{self.url}: {error or type(error).__name__}") from error


async def _refusal(answer: aiohttp.ClientResponse) -> ServiceError:
    body = await answer.text(errors="replace")
    retry = answer.headers.get("Retry-After", "")
    try:
        said = json.loads(body)["error"]
        code, message = str(said["code"]), str(said["message"])
    except (ValueError, KeyError, TypeError):
        code, message = "http", f"the service answered {answer.status}: {body[:200]}"
    return ServiceError(code, message, status=answer.status, retry_after_s=float(retry) if retry.isdigit() else None)


class VideoStream:
    """Fragmented MP4 as it is made. Iterate over it once: the init segment, then one moof + mdat at a time; joined they are a file that plays.

    codecs: of pictures and sound. utterance: by which captions are asked for. headers: of the answer.
    """

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.headers = answer.headers
        self.codecs = answer.headers.get("X-Codecs", "")
        self.utterance = answer.headers.get("X-Utterance-Id", "")
        self._content = answer.content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Raises UnreachableError when the stream was cut."""
        gathered = bytearray()
        while (box := await self._box()) is not None:
            gathered += box
            if box[4:8] in (b"moov", b"mdat"):
                yield bytes(gathered)
                gathered.clear()
            elif box == STREAM_END:
                yield bytes(gathered)
                return
        raise UnreachableError("the stream was cut: it ended without its last box")

    async def _box(self) -> bytes | None:
        try:
            head = await self._content.readexactly(8)
            return head + await self._content.readexactly(int.from_bytes(head[:4], "big") - 8)
        except EOFError:  # asyncio.IncompleteReadError
            return None

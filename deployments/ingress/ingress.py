"""HTTP in front of the graph: validates, maps errors, forwards bytes. No media work."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute

from configs.models import AppConfig
from deployments.ingress import bodies, cors, idle_bundle
from deployments.ingress.bodies import check_captions, exactly_one, parse, read_body, read_media, speech_request, video_request
from deployments.ingress.openapi import document
from deployments.ingress.page import Asset, load_assets
from deployments.ingress.sessions import protocol
from deployments.ingress.sessions.registry import Sessions
from deployments.remote import pulled, unwrap
from museserve.errors import BusyError, ConflictError, EngineError, MuseserveError, PayloadTooLargeError, RequestError
from museserve.media.captions import cues, webvtt
from museserve.media.speech_encode import CONTENT_TYPES
from museserve.messages import EngineInfo, Fragment, PreparationProgress, VideoRequest, Word
from museserve.speech.engines import voices
from musetalk.avatars.builtin import resolve
from musetalk.avatars.format import AvatarMeta
from musetalk.factory import open_store, weights_report

logger = logging.getLogger("ray.serve")

CAPTIONS_KEPT = 512
CACHE_SAYS = {"no": "miss", "speech": "hit; speech", "segments": "hit; segments"}


class Captions:
    """The words of one utterance as the stream tells them; `ready` once all are known."""

    def __init__(self) -> None:
        self.words: list[Word] = []
        self.ready = asyncio.Event()

    def add(self, fragment: Fragment) -> None:
        self.words.extend(fragment.words)
        if fragment.words_final:
            self.ready.set()


class Ingress:
    """A plain class: `graph.py` makes it the application's HTTP side."""

    def __init__(self, config: AppConfig, mux: DeploymentHandle, face_prep: DeploymentHandle) -> None:
        self._config, self._limits = config, config.limits
        self._mux, self._face_prep = mux, face_prep.options(stream=True)
        self._mux_stream = mux.options(stream=True)
        self._store = open_store(config.avatars)
        self._live = 0
        self._captions: OrderedDict[str, Captions] = OrderedDict()
        self._engine: EngineInfo | None = None
        self._runs: dict[str, Any] = {}
        self._sessions = Sessions(config, self._speak, self._avatar, self._what_runs)
        self._weights = weights_report(config)

    def __serve_build_asgi_app__(self) -> Starlette:
        routes = [
            Route("/health", self.health),
            Route("/openapi.json", self.openapi),
            Route("/v1/voices", self.list_voices),
            Route("/v1/avatars", self.list_avatars, methods=["GET"]),
            Route("/v1/avatars", self.create_avatar, methods=["POST"]),
            Route("/v1/avatars/{id}", self.read_avatar, methods=["GET"]),
            Route("/v1/avatars/{id}", self.delete_avatar, methods=["DELETE"]),
            Route("/v1/avatars/{id}/portrait", self.portrait),
            Route("/v1/avatars/{id}/idle", self.idle_loop),
            Route("/v1/avatars/{id}/idle.segments", self.idle_segments),
            WebSocketRoute("/v1/sessions", self._sessions.serve),
            Route("/v1/sessions/schema.json", self.session_schema),
            Route("/v1/videos", self.create_video, methods=["POST"]),
            Route("/v1/prerender", self.prerender, methods=["POST"]),
            Route("/v1/videos/{id}/captions.vtt", self.captions),
            Route("/v1/audio/speech", self.create_speech, methods=["POST"]),
            Route("/api/core/tts/synthesize/", self.synthesize, methods=["POST"]),
            Route("/api/core/interview/video/generate/", self.interview_video, methods=["POST"]),
            Route("/generate", self.generate, methods=["POST"]),
            Route("/idle", self.idle_of_image, methods=["POST"]),
            *(Route(path, _page(asset)) for path, asset in load_assets().items()),
        ]
        handlers: dict[Any, Any] = {MuseserveError: answer_error, HTTPException: answer_http_error, Exception: answer_error}
        return Starlette(routes=routes, exception_handlers=handlers, middleware=cors.middleware(self._config.server.cors_origins))

    # --- what runs ---------------------------------------------------------------------------------------------------

    async def health(self, request: Request) -> Response:
        info = await self._call(self._mux.info.remote())
        engine: EngineInfo = info["engine"]
        return JSONResponse(
            {
                "status": "ok",
                "engine": {"name": engine.name, "reason": engine.reason, "version": engine.version, "device": engine.device, **engine.details},
                "speech": info["speech"],
                "weights": self._weights,
                "default_avatar": self._config.avatars.default,
                "voices": [v.id for v in voices.list_voices()],
                "live_utterances": self._live,
                "live_sessions": self._sessions.live,
                "versions": {name: version(name) for name in ("museserve", "ray", "av", "mediapipe", "opencv-python")},
            }
        )

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(document())

    async def list_voices(self, request: Request) -> Response:
        return JSONResponse({"data": [v.to_json() for v in voices.list_voices()]})

    # --- avatars -----------------------------------------------------------------------------------------------------

    async def list_avatars(self, request: Request) -> Response:
        avatars = await asyncio.to_thread(self._store.list)
        return JSONResponse({"data": [a.to_json() for a in avatars if not a.id.startswith(TEMPORARY)]})

    async def create_avatar(self, request: Request) -> Response:
        upload = await read_body(request, self._limits, ["image", "video"], max(self._limits.max_clip_bytes, self._limits.max_body_bytes))
        body = parse(bodies.AvatarBody, upload.fields)
        image, clip = upload.files.get("image"), upload.files.get("video")
        exactly_one(image=image, video=clip)
        if image is not None and len(image) > self._limits.max_body_bytes:
            raise PayloadTooLargeError(f"the picture is {len(image):,} bytes; at most {self._limits.max_body_bytes:,} are accepted")
        if body.id is not None and await asyncio.to_thread(self._store.exists, body.id):
            raise ConflictError(f"avatar {body.id!r} exists; delete it first or choose another id")
        told = self._preparation(image or clip or b"", body.id or _slug(body.name), body.name, body.gender, clip is not None)
        if NDJSON in request.headers.get("accept", ""):
            first = await anext(told)  # what is wrong before any work begins has its own status
            return StreamingResponse(_lines(first, told), media_type=NDJSON, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        made = await _made(told)
        return JSONResponse(made.to_json(), status_code=201, headers={"Location": f"/v1/avatars/{made.id}"})

    async def read_avatar(self, request: Request) -> Response:
        return JSONResponse((await self._avatar(request.path_params["id"])).meta.to_json())

    async def delete_avatar(self, request: Request) -> Response:
        await asyncio.to_thread(self._store.delete, request.path_params["id"])
        return Response(status_code=204)

    async def portrait(self, request: Request) -> Response:
        avatar = await self._avatar(request.path_params["id"])
        return Response(avatar.portrait_png, media_type="image/png", headers=_immutable(avatar.ref.version))

    async def idle_loop(self, request: Request) -> Response:
        avatar = await self._avatar(request.path_params["id"])
        return Response(avatar.idle["mp4"], media_type="video/mp4", headers=_immutable(avatar.ref.version))

    async def idle_segments(self, request: Request) -> Response:
        version = request.query_params.get("version")
        avatar = await self._avatar(request.path_params["id"], version)
        headers = _immutable(avatar.ref.version)
        if version is not None:
            headers["Cache-Control"] = "public, max-age=31536000, immutable"
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(await asyncio.to_thread(idle_bundle.packed, avatar), media_type="application/octet-stream", headers=headers)

    def _speak(self, asked: VideoRequest) -> AsyncGenerator[Fragment, None]:
        return self._fragments(asked, Captions(), "stream")

    async def _what_runs(self) -> dict[str, Any]:
        if not self._runs:
            self._runs = await self._call(self._mux.info.remote())
        return self._runs

    async def session_schema(self, request: Request) -> Response:
        return JSONResponse(protocol.schema())

    # --- videos ------------------------------------------------------------------------------------------------------

    async def create_video(self, request: Request) -> Response:
        upload = await read_body(request, self._limits, ["audio"])
        body = parse(bodies.VideoBody, upload.fields)
        audio = upload.files.get("audio")
        exactly_one(text=body.text, audio=audio)
        check_captions(body.captions, stream=body.stream, audio=audio is not None)
        return await self._video(body.avatar, body.text, audio, body.voice, body.speed, body.language, stream=body.stream, captions=body.captions)

    async def prerender(self, request: Request) -> Response:
        """Speak texts into the cache, one after the other, and say what was there already."""
        body = parse(bodies.PrerenderBody, (await read_body(request, self._limits)).fields)
        meta = (await self._avatar(body.avatar or self._config.avatars.default)).meta
        speeches = [speech_request(text, body.voice, body.speed, body.language, self._config, meta.gender) for text in body.texts]
        if not self._config.cache.enabled:
            raise ConflictError("the cache is off (cache.enabled); nothing can be prerendered")
        done = []
        for speech in speeches:
            asked = replace(video_request(meta.id, speech, None, paced=False), keep=True)
            fragments = [fragment async for fragment in self._fragments(asked, Captions(), "stream")]
            assert fragments[0].head is not None
            done.append({"text": speech.text, "cache": CACHE_SAYS[fragments[0].head["cached"]], "frames": sum(f.n_frames for f in fragments)})
        return JSONResponse({"data": done})

    async def captions(self, request: Request) -> Response:
        """Answers once every word is known, which is long before the last picture is sent."""
        kept = self._captions.get(request.path_params["id"])
        if kept is None:
            raise HTTPException(404, f"no captions are kept for utterance {request.path_params['id']!r}; the last {CAPTIONS_KEPT} are")
        await kept.ready.wait()
        return Response(webvtt(cues(kept.words)), media_type="text/vtt; charset=utf-8", headers={"Cache-Control": "no-store"})

    async def interview_video(self, request: Request) -> Response:
        upload = await read_body(request, self._limits, ["audio"])
        body = parse(bodies.InterviewBody, upload.fields)
        if body.status == "idle":
            avatar = await self._avatar(body.avatar_type)
            return Response(avatar.idle["mp4"], media_type="video/mp4")
        audio = upload.files.get("audio")
        exactly_one(text=body.text, audio_path=body.audio_path, audio=audio)
        if body.audio_path is not None:
            audio = await asyncio.to_thread(read_media, body.audio_path, self._limits)
        return await self._video(body.avatar_type, body.text, audio, body.voice, body.speed, "auto", stream=False)

    async def generate(self, request: Request) -> Response:
        upload = await read_body(request, self._limits, ["image", "audio"])
        parse(bodies.ImageBody, upload.fields)
        image, audio = _file(upload, "image"), _file(upload, "audio")
        avatar = await self._temporary(image)
        try:
            return await self._video(avatar, None, audio, "auto", 1.0, "auto", stream=False)
        finally:
            await asyncio.to_thread(self._store.delete, avatar)

    async def idle_of_image(self, request: Request) -> Response:
        upload = await read_body(request, self._limits, ["image"])
        parse(bodies.ImageBody, upload.fields)
        avatar = await self._temporary(_file(upload, "image"))
        try:
            return Response((await self._avatar(avatar)).idle["mp4"], media_type="video/mp4")
        finally:
            await asyncio.to_thread(self._store.delete, avatar)

    async def _video(
        self,
        avatar: str | None,
        text: str | None,
        audio: bytes | None,
        voice: str,
        speed: float,
        language: str,
        *,
        stream: bool,
        captions: str = "link",
    ) -> Response:
        meta = (await self._avatar(avatar or self._config.avatars.default)).meta
        speech = None if text is None else speech_request(text, voice, speed, language, self._config, meta.gender)
        asked = video_request(meta.id, speech, audio, paced=stream, text_track=captions == "track")
        heard = Captions()
        if captions != "none":
            self._captions[asked.utterance] = heard
            while len(self._captions) > CAPTIONS_KEPT:
                self._captions.popitem(last=False)
        try:
            fragments = self._fragments(asked, heard, "stream" if stream else "film")
            first = await anext(fragments)
        except BaseException:
            self._captions.pop(asked.utterance, None)
            raise
        assert first.head is not None
        headers = await self._describe(asked, first.head)
        if captions != "none":
            headers["Link"] = f'</v1/videos/{asked.utterance}/captions.vtt>; rel="captions"; type="text/vtt"'
        codecs = first.head["codecs"]
        if stream:
            return StreamingResponse(_bytes(first, fragments), media_type=f'video/mp4; codecs="{codecs}"', headers=headers)
        data = b"".join([fragment.data async for fragment in fragments])
        return Response(data, media_type="video/mp4", headers=headers)

    async def _fragments(self, asked: VideoRequest, captions: Captions, method: str) -> AsyncGenerator[Fragment, None]:
        if self._live >= self._limits.max_live_utterances:
            raise BusyError(f"{self._live} videos are being made, the most this service takes at once; try again in a moment")
        self._live += 1
        try:
            async with aclosing(pulled(getattr(self._mux_stream, method).remote(asked))) as fragments:
                async for fragment in fragments:
                    captions.add(fragment)
                    yield fragment
        finally:
            self._live -= 1
            captions.ready.set()

    async def _describe(self, asked: VideoRequest, head: dict[str, Any]) -> dict[str, str]:
        if self._engine is None:
            self._engine = (await self._call(self._mux.info.remote()))["engine"]
        headers = {
            "X-Utterance-Id": asked.utterance,
            "X-Codecs": head["codecs"],
            "X-Engine": f"{self._engine.name}; {self._engine.reason}",
            "X-Speech-Engine": head["speech_engine"],
            "Server-Timing": ", ".join(f"{stage};dur={ms}" for stage, ms in head["timings_ms"].items()),
            "X-Cache": CACHE_SAYS[head["cached"]],
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Accel-Buffering": "no",
        }
        if head["notice"]:
            headers["X-Notice"] = head["notice"].encode("ascii", "replace").decode()
        return headers

    # --- speech ------------------------------------------------------------------------------------------------------

    async def create_speech(self, request: Request) -> Response:
        body = parse(bodies.SpeechBody, (await read_body(request, self._limits)).fields)
        return await self._speech(body.input, body.voice, body.speed, body.language, body.response_format)

    async def synthesize(self, request: Request) -> Response:
        body = parse(bodies.SynthesizeBody, (await read_body(request, self._limits)).fields)
        return await self._speech(body.text, body.voice, body.speed, "auto", "mp3")

    async def _speech(self, text: str, voice: str, speed: float, language: str, audio_format: str) -> Response:
        asked = speech_request(text, voice, speed, language, self._config)
        began = time.perf_counter()
        stream = pulled(self._mux_stream.speak.remote(asked, audio_format))
        first = await anext(stream)
        timing = {"Server-Timing": f"tts;dur={(time.perf_counter() - began) * 1e3:.1f}"}
        return StreamingResponse(_chain(first, stream), media_type=CONTENT_TYPES[audio_format], headers=timing)

    # --- shared ------------------------------------------------------------------------------------------------------

    async def _avatar(self, name: str, version: str | None = None) -> Any:
        return await asyncio.to_thread(self._store.load, resolve(name), version)

    def _preparation(self, data: bytes, avatar_id: str, name: str, gender: str, clip: bool = False) -> Preparation:
        return pulled(self._face_prep.prepare.remote(data, avatar_id, name or avatar_id, gender, clip))

    async def _temporary(self, image: bytes) -> str:
        avatar_id = f"{TEMPORARY}{hashlib.sha256(image).hexdigest()[:12]}-{secrets.token_hex(4)}"
        await _made(self._preparation(image, avatar_id, avatar_id, "female"))
        return avatar_id

    async def _call(self, response: Awaitable[Any]) -> Any:
        try:
            return await response
        except Exception as error:
            raise unwrap(error) from None


TEMPORARY = "tmp-"
NDJSON = "application/x-ndjson"
Preparation = AsyncGenerator[PreparationProgress | AvatarMeta, None]  # the last is the avatar


async def answer_error(request: Request, error: Exception) -> Response:
    """Our own errors with their status; anything else is logged with its traceback and answered without it."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)
    error = _ours(error, f"{request.method} {request.url.path}")
    headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else None
    return JSONResponse({"error": {"code": error.code, "message": str(error)}}, status_code=error.status, headers=headers)


def _ours(error: BaseException, what: str) -> MuseserveError:
    """The error that a caller is told; what went wrong on our side is logged."""
    error = unwrap(error)
    if not isinstance(error, MuseserveError):
        logger.error("request failed: %s", what, exc_info=error)
        return EngineError("the service failed on this request; the log has the details")
    if not isinstance(error, RequestError):
        logger.warning("%s: %s: %s", what, error.code, error)
    return error


async def answer_http_error(request: Request, error: HTTPException) -> Response:
    code = re.sub(r"\W+", "_", {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request"))
    message = error.detail if error.detail not in ("Not Found", "Method Not Allowed") else f"{error.detail}: {request.method} {request.url.path}"
    return JSONResponse({"error": {"code": code, "message": message}}, status_code=error.status_code, headers=error.headers)


def _page(asset: Asset) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == asset.etag:
            return Response(status_code=304, headers=dict(asset.headers))
        return Response(asset.body, headers=dict(asset.headers))

    return answer


def _file(upload: bodies.Upload, name: str) -> bytes:
    if name not in upload.files:
        raise RequestError(f"the file {name!r} is missing; send multipart/form-data with it")
    return upload.files[name]


def _slug(name: str) -> str:
    base = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    return f"{base or 'avatar'}-{secrets.token_hex(3)}"


def _immutable(tag: str) -> dict[str, str]:
    return {"ETag": f'"{tag}"', "Cache-Control": "no-cache"}


async def _made(told: Preparation) -> AvatarMeta:
    """The avatar, once it is prepared. Read to the end: whoever closes it before leaves no avatar behind."""
    async with aclosing(told):
        items = [item async for item in told]
    assert isinstance(items[-1], AvatarMeta)
    return items[-1]


def _line(item: PreparationProgress | AvatarMeta) -> bytes:
    return json.dumps({"avatar": item.to_json()} if isinstance(item, AvatarMeta) else asdict(item)).encode() + b"\n"


async def _lines(first: PreparationProgress | AvatarMeta, rest: Preparation) -> AsyncIterator[bytes]:
    """One JSON object a line; the last is the avatar or an error, with the status that it would have had."""
    async with aclosing(rest):
        try:
            yield _line(first)
            async for item in rest:
                yield _line(item)
        except Exception as error:
            told = _ours(error, "POST /v1/avatars")
            yield json.dumps({"error": {"code": told.code, "message": str(told), "status": told.status}}).encode() + b"\n"


async def _bytes(first: Fragment, rest: AsyncIterator[Fragment]) -> AsyncIterator[bytes]:
    try:
        yield first.data
        async for fragment in rest:
            yield fragment.data
    finally:
        await rest.aclose()  # type: ignore[attr-defined]


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        yield first
        async for piece in rest:
            yield piece
    finally:
        await rest.aclose()  # type: ignore[attr-defined]

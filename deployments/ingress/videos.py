"""`/v1/videos` and `/v1/prerender`: text or audio in, video out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from configs.models import AppConfig
from deployments import quotas
from deployments.ingress.access import caller_of
from deployments.ingress.answers import Streamed, begun
from deployments.ingress.avatars import Avatars
from deployments.ingress.bodies import PrerenderBody, VideoBody, exactly_one, parse
from deployments.ingress.captions import CaptionsStore, utterance_id
from deployments.ingress.graph_client import GraphClient
from deployments.ingress.manifests import Manifests
from deployments.ingress.uploads import read_body
from museserve.access.caller import Caller
from museserve.errors import ConflictError, RequestError
from museserve.media.fragments import STREAM_END
from museserve.media.provenance import Marks, Origin
from museserve.messages import FilmHead, Fragment, FragmentHead, SpeechRequest, VideoRequest
from museserve.runtime.blob_store import BlobStore
from museserve.speech.request import parse_delivery, parse_speech
from musetalk.avatars.format import AvatarMeta

T = TypeVar("T")
Items = AsyncGenerator[T, None]
C2PA = "application/c2pa"
CACHE_SAYS = {"no": "miss", "speech": "hit; speech", "segments": "hit; segments"}


class Videos:
    def __init__(self, config: AppConfig, graph: GraphClient, avatars: Avatars) -> None:
        self._config, self._graph, self._avatars = config, graph, avatars
        cache, shared = config.cache, None
        if cache.enabled:  # without memory of its own: what this replica made is kept as it is
            ages = {"kept_s": cache.kept_hours * 3_600, "long_s": cache.prerendered_hours * 3_600}
            shared = BlobStore(cache.place, cache.max_bytes, memory_bytes=0, own=not cache.uri, **ages)
        self._captions = CaptionsStore(shared)
        self.marks = Marks(config.provenance)
        self._manifests = None if self.marks.signer is None else Manifests(self.marks.signer, shared)

    async def create(self, request: Request) -> Response:
        upload = await read_body(request, ["audio"])
        body = parse(VideoBody, upload.fields)
        audio = upload.files.get("audio")
        exactly_one(text=body.text, audio=audio)
        caller = caller_of(request)
        return await self.answer(caller, body, audio, await self._avatars.meta(caller, body.avatar))

    async def answer(self, caller: Caller, body: VideoBody, audio: bytes | None, meta: AvatarMeta) -> Response:
        """The video of `body.text` or of the recording `audio`, one of which is given, with an avatar that the caller may use."""
        _check_captions(body, audio)
        speech = None if body.text is None else self._speech(body.text, body, meta.gender)
        track = body.captions == "track"
        name, tenant = utterance_id(body.captions != "none"), caller.tenant
        video = VideoRequest(name, meta.id, speech, audio, paced=body.stream, text_track=track, tenant=tenant)
        return await (self._stream(video, body, meta) if body.stream else self._film(video, body))

    async def captions(self, request: Request) -> Response:
        """Answers once every word is known, which is long before the last picture is sent."""
        text = await self._captions.webvtt(caller_of(request).tenant, request.path_params["id"])
        return Response(text, media_type="text/vtt; charset=utf-8", headers={"Cache-Control": "no-store"})

    async def manifest(self, request: Request) -> Response:
        """The C2PA manifest of a stream, once it is over. One inside a finished film needs none beside it."""
        if self._manifests is None:
            raise HTTPException(404, "streams are not signed here: no provenance.certificate is configured")
        data = await self._manifests.manifest(caller_of(request).tenant, request.path_params["id"])
        return Response(data, media_type=C2PA, headers={"Cache-Control": "no-store"})

    async def clear_cache(self, request: Request) -> Response:
        """Forget what is kept of the caller's utterances; what is being spoken just now may be kept again."""
        tenant = caller_of(request).tenant
        self._captions.clear(tenant)
        if self._manifests is not None:
            self._manifests.clear(tenant)
        await self._graph.clear_cache(tenant)
        return Response(status_code=204)

    async def prerender(self, request: Request) -> Response:
        """Speak texts into the cache, one after the other, and say what was there already."""
        body = parse(PrerenderBody, (await read_body(request)).fields)
        caller = caller_of(request)
        meta = await self._avatars.meta(caller, body.avatar)
        speeches = [self._speech(text, body, meta.gender) for text in body.texts]
        if not self._config.cache.enabled:
            raise ConflictError("the cache is off (cache.enabled); nothing can be prerendered")
        done = []
        for speech in speeches:
            video = VideoRequest(utterance_id(captions=False), meta.id, speech, paced=False, keep=True, tenant=caller.tenant)
            fragments = [fragment async for fragment in self._graph.stream(video)]
            frames = sum(fragment.n_frames for fragment in fragments)
            done.append({"text": speech.text, "cache": CACHE_SAYS[_head(fragments[0]).cached], "frames": frames})
        return JSONResponse({"data": done})

    def _speech(self, text: str, body: VideoBody | PrerenderBody, gender: str) -> SpeechRequest:
        delivery = parse_delivery(body.voice, body.speed, body.language, gender)
        speech = parse_speech(text, delivery, self._config.speech.max_text_chars)
        quotas.charge("chars", len(speech.text))
        return speech

    async def _stream(self, video: VideoRequest, body: VideoBody, meta: AvatarMeta) -> Response:
        first, fragments = await self._begun(video, body, self._graph.stream(video))
        head = _head(first)
        headers = await self._headers(video, body, head)
        voice = head.speech_engine if video.speech is not None else ""
        origin = Origin(meta.id, meta.version, not meta.builtin, voice, (await self._graph.info()).lipsync.name)
        data = _data(fragments, lambda begin: self.marks.begin(begin, origin))
        if self._manifests is not None:
            data = self._manifests.signed(video.tenant, video.utterance, data, origin)
            url = f"/v1/videos/{video.utterance}/manifest.c2pa"
            headers["Link"] = ", ".join(filter(None, [headers.get("Link"), f'<{url}>; rel="c2pa-manifest"; type="{C2PA}"']))
        return Streamed(data, media_type=f'video/mp4; codecs="{head.codecs}"', headers=headers)

    async def _film(self, video: VideoRequest, body: VideoBody) -> Response:
        first, parts = await self._begun(video, body, self._graph.film(video))
        assert isinstance(first, FilmHead)
        data = b"".join([part async for part in parts if isinstance(part, bytes)])
        return Response(data, media_type="video/mp4", headers=await self._headers(video, body, first.fragments))

    async def _begun(self, video: VideoRequest, body: VideoBody, items: Items[T]) -> tuple[T, Items[T]]:
        if body.captions == "none":
            return await begun(items)
        try:
            return await begun(self._captions.keep(video.tenant, video.utterance).heard(items))
        except BaseException:
            self._captions.drop(video.tenant, video.utterance)
            raise

    async def _headers(self, video: VideoRequest, body: VideoBody, head: FragmentHead) -> dict[str, str]:
        lipsync = (await self._graph.info()).lipsync
        headers = {
            "X-Utterance-Id": video.utterance,
            "X-Codecs": head.codecs,
            "X-Engine": f"{lipsync.name}; {lipsync.reason}",
            "X-Speech-Engine": head.speech_engine,
            "Server-Timing": ", ".join(f"{stage};dur={ms}" for stage, ms in head.timings_ms.items()),
            "X-Cache": CACHE_SAYS[head.cached],
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Accel-Buffering": "no",
        }
        if head.notice:
            headers["X-Notice"] = head.notice.encode("ascii", "replace").decode()
        if body.captions != "none":
            headers["Link"] = f'</v1/videos/{video.utterance}/captions.vtt>; rel="captions"; type="text/vtt"'
        return headers


def _head(first: Fragment) -> FragmentHead:
    assert first.head is not None, "the first fragment has the head"
    return first.head


async def _data(fragments: Items[Fragment], mark: Callable[[bytes], bytes]) -> AsyncGenerator[bytes, None]:
    """mark: what is done to the beginning."""
    async with aclosing(fragments):
        async for fragment in fragments:
            data = fragment.data if fragment.head is None else mark(fragment.data)
            yield data + STREAM_END if fragment.final else data


def _check_captions(body: VideoBody, audio: bytes | None) -> None:
    """Raises RequestError for a text track that cannot be made."""
    if body.captions == "track" and audio is not None:
        raise RequestError('captions "track" needs `text`: the words of recorded speech are not known; accepted with `audio`: "link", "none"')
    if body.captions == "track" and body.stream:
        raise RequestError('captions "track" needs "stream": false: a stream\'s captions are WebVTT; accepted with a stream: "link", "none"')

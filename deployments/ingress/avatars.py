"""`/v1/avatars`: make, list, look at and delete the people that speak."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractContextManager, aclosing, asynccontextmanager
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from configs.models import AppConfig
from deployments.ingress import idle_bundle
from deployments.ingress.answers import begun, is_known, told
from deployments.ingress.bodies import AvatarBody, exactly_one, parse
from deployments.ingress.graph_client import GraphClient
from deployments.ingress.uploads import read_body
from museserve.errors import ConflictError, EngineError, PayloadTooLargeError, RequestError, StoreError, UnknownAvatarError
from museserve.media.provenance import Marks
from museserve.messages import PreparationProgress
from musetalk.avatars.builtin import resolve
from musetalk.avatars.format import ONE_OFF, Avatar, AvatarMeta, is_one_off
from musetalk.avatars.stores import open_store

NDJSON = "application/x-ndjson"
Preparation = AsyncGenerator[PreparationProgress | AvatarMeta, None]


class Avatars:
    def __init__(self, config: AppConfig, graph: GraphClient) -> None:
        self._limits, self._graph, self._marks = config.limits, graph, Marks(config.provenance)
        self._store = open_store(config.avatars)
        self._store.watch(sweep=True)

    async def open(self, name: str, version: str | None = None) -> Avatar:
        """An avatar by the name that a request gives it; none of another request's. Raises UnknownAvatarError, EngineError."""
        if is_one_off(name):
            raise UnknownAvatarError(f"there is no avatar {name[:80]!r}")
        return await asyncio.to_thread(self._store.load, resolve(name), version)

    async def meta(self, name: str) -> AvatarMeta:
        return (await self.open(name)).meta

    @asynccontextmanager
    async def temporary(self, image: bytes) -> AsyncIterator[Avatar]:
        """An avatar that is made of a portrait for one request, and removed after it."""
        avatar_id = f"{ONE_OFF}{secrets.token_hex(16)}"
        held = self._store.one_off(avatar_id)
        entering = asyncio.create_task(asyncio.to_thread(held.__enter__))
        try:
            await asyncio.shield(entering)
            await _made(self._graph.prepare(image, avatar_id, avatar_id, "female"))
            yield await asyncio.to_thread(self._store.load, avatar_id)
        finally:
            await asyncio.shield(asyncio.create_task(_left(entering, held)))

    async def list(self, request: Request) -> Response:
        avatars = await asyncio.to_thread(self._store.list)
        return JSONResponse({"data": [meta.to_json() for meta in avatars]})

    async def create(self, request: Request) -> Response:
        upload = await read_body(request, ["image", "video"])
        body = parse(AvatarBody, upload.fields)
        image, clip = upload.files.get("image"), upload.files.get("video")
        exactly_one(image=image, video=clip)
        if image is not None and len(image) > (most := self._limits.max_body_bytes):
            raise PayloadTooLargeError(f"the picture is {len(image):,} bytes; at most {most:,} are accepted")
        if body.id is not None and is_one_off(body.id):
            raise RequestError(f"ids that begin with {ONE_OFF!r} are the service's own; choose another")
        if body.id is not None:
            await asyncio.to_thread(self._check_free, body.id)
        avatar_id = body.id or _slug(body.name)
        steps = self._graph.prepare(image or clip or b"", avatar_id, body.name, body.gender, clip is not None)
        if NDJSON in request.headers.get("accept", ""):
            _, steps = await begun(steps)  # what is wrong before any work begins has its own status
            headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
            return StreamingResponse(_lines(steps), media_type=NDJSON, headers=headers)
        meta = await _made(steps)
        return JSONResponse(meta.to_json(), status_code=201, headers={"Location": f"/v1/avatars/{meta.id}"})

    def _check_free(self, avatar_id: str) -> None:
        """Raises ConflictError, StoreError."""
        try:
            taken = "exists" if self._store.exists(avatar_id) else ""
        except StoreError:
            raise
        except EngineError:
            taken = "exists and is damaged"
        if taken:
            raise ConflictError(f"avatar {avatar_id!r} {taken}; delete it first or choose another id")

    async def read(self, request: Request) -> Response:
        return JSONResponse((await self.meta(request.path_params["id"])).to_json())

    async def delete(self, request: Request) -> Response:
        avatar_id = request.path_params["id"]
        if is_one_off(avatar_id):
            raise UnknownAvatarError(f"there is no avatar {avatar_id[:80]!r}")
        await asyncio.to_thread(self._store.delete, avatar_id)
        return Response(status_code=204)

    async def portrait(self, request: Request) -> Response:
        return await self._file(request, "image/png", lambda avatar: avatar.portrait_png)

    async def idle_loop(self, request: Request) -> Response:
        return await self._file(request, "video/mp4", await self.idle_writer())

    async def idle_writer(self) -> Callable[[Avatar], bytes]:
        """What writes an avatar's idle loop as a film; it reads files and signs, so it belongs into a thread."""
        lips = (await self._graph.info()).lipsync.name
        return lambda avatar: idle_bundle.idle_film(avatar, self._marks, lips)

    async def idle_segments(self, request: Request) -> Response:
        return await self._file(request, "application/octet-stream", idle_bundle.packed)

    async def _file(self, request: Request, media_type: str, read: Callable[[Avatar], bytes]) -> Response:
        """What `read` gives of the avatar, unless the caller has it. What names its version never changes."""
        version = request.query_params.get("version")
        avatar = await self.open(request.path_params["id"], version)
        caching = "no-cache" if version is None else "public, max-age=31536000, immutable"
        headers = {"ETag": f'"{avatar.ref.version}"', "Cache-Control": caching}
        if is_known(request, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        return Response(await asyncio.to_thread(read, avatar), media_type=media_type, headers=headers)


async def _left(entering: asyncio.Task[None], held: AbstractContextManager[None]) -> None:
    """Also when the request was cancelled while it was entering."""
    await asyncio.wait([entering])
    await asyncio.to_thread(held.__exit__, None, None, None)


def _slug(name: str) -> str:
    base = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    return f"{base or 'avatar'}-{secrets.token_hex(3)}"


async def _made(preparation: Preparation) -> AvatarMeta:
    """The avatar, once it is prepared: the last item."""
    async with aclosing(preparation):
        *_, made = [item async for item in preparation]
    assert isinstance(made, AvatarMeta)
    return made


async def _lines(preparation: Preparation) -> AsyncIterator[bytes]:
    """One JSON object a line; the last is the avatar or an error, with the status that it would have had."""
    async with aclosing(preparation):
        try:
            async for item in preparation:
                line: dict[str, Any] = {"avatar": item.to_json()} if isinstance(item, AvatarMeta) else asdict(item)
                yield json.dumps(line).encode() + b"\n"
        except Exception as error:
            failed = told(error, "POST /v1/avatars")
            line = {"error": {"code": failed.code, "message": str(failed), "status": failed.status}}
            yield json.dumps(line).encode() + b"\n"

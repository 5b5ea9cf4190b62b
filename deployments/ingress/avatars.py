"""`/v1/avatars`: make, list, look at and delete the people that speak."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from configs.models import AppConfig
from deployments.ingress import idle_bundle
from deployments.ingress.answers import Streamed, begun, is_known, told
from deployments.ingress.bodies import AvatarBody, exactly_one, parse
from deployments.ingress.graph_client import GraphClient
from deployments.ingress.uploads import read_body
from museserve.errors import ConflictError, PayloadTooLargeError, RequestError
from museserve.messages import PreparationProgress
from musetalk.avatars.builtin import resolve
from musetalk.avatars.format import Avatar, AvatarMeta
from musetalk.avatars.stores import open_store

TEMPORARY = "tmp-"
NDJSON = "application/x-ndjson"
Preparation = AsyncGenerator[PreparationProgress | AvatarMeta, None]


class Avatars:
    def __init__(self, config: AppConfig, graph: GraphClient) -> None:
        self._limits, self._graph = config.limits, graph
        self._store = open_store(config.avatars)

    async def open(self, name: str, version: str | None = None) -> Avatar:
        """An avatar by the name that a request gives it. Raises UnknownAvatarError, EngineError."""
        return await asyncio.to_thread(self._store.load, resolve(name), version)

    async def meta(self, name: str) -> AvatarMeta:
        return (await self.open(name)).meta

    @asynccontextmanager
    async def temporary(self, image: bytes) -> AsyncIterator[str]:
        """The id of an avatar that is made of a portrait for one request, and deleted after it."""
        avatar_id = f"{TEMPORARY}{hashlib.sha256(image).hexdigest()[:12]}-{secrets.token_hex(4)}"
        await _made(self._graph.prepare(image, avatar_id, avatar_id, "female"))
        try:
            yield avatar_id
        finally:
            await asyncio.to_thread(self._store.delete, avatar_id)

    async def list(self, request: Request) -> Response:
        avatars = await asyncio.to_thread(self._store.list)
        return JSONResponse({"data": [meta.to_json() for meta in avatars if not meta.id.startswith(TEMPORARY)]})

    async def create(self, request: Request) -> Response:
        upload = await read_body(request, ["image", "video"])
        body = parse(AvatarBody, upload.fields)
        image, clip = upload.files.get("image"), upload.files.get("video")
        exactly_one(image=image, video=clip)
        if image is not None and len(image) > (most := self._limits.max_body_bytes):
            raise PayloadTooLargeError(f"the picture is {len(image):,} bytes; at most {most:,} are accepted")
        if body.id is not None and body.id.startswith(TEMPORARY):
            raise RequestError(f"ids that begin with {TEMPORARY!r} are the service's own; choose another")
        if body.id is not None and await asyncio.to_thread(self._store.exists, body.id):
            raise ConflictError(f"avatar {body.id!r} exists; delete it first or choose another id")
        avatar_id = body.id or _slug(body.name)
        steps = self._graph.prepare(image or clip or b"", avatar_id, body.name, body.gender, clip is not None)
        if NDJSON in request.headers.get("accept", ""):
            _, steps = await begun(steps)  # what is wrong before any work begins has its own status
            headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
            return Streamed(_lines(steps), media_type=NDJSON, headers=headers)
        meta = await _made(steps)
        return JSONResponse(meta.to_json(), status_code=201, headers={"Location": f"/v1/avatars/{meta.id}"})

    async def read(self, request: Request) -> Response:
        return JSONResponse((await self.meta(request.path_params["id"])).to_json())

    async def delete(self, request: Request) -> Response:
        await asyncio.to_thread(self._store.delete, request.path_params["id"])
        return Response(status_code=204)

    async def portrait(self, request: Request) -> Response:
        return await self._file(request, "image/png", lambda avatar: avatar.portrait_png)

    async def idle_loop(self, request: Request) -> Response:
        return await self._file(request, "video/mp4", lambda avatar: idle_bundle.stored_idle(avatar)["mp4"])

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


def _slug(name: str) -> str:
    base = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    return f"{base or 'avatar'}-{secrets.token_hex(3)}"


async def _made(preparation: Preparation) -> AvatarMeta:
    """The avatar, once it is prepared: the last item."""
    async with aclosing(preparation):
        *_, made = [item async for item in preparation]
    assert isinstance(made, AvatarMeta)
    return made


async def _lines(preparation: Preparation) -> AsyncGenerator[bytes, None]:
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

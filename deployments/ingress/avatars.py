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
from starlette.responses import JSONResponse, Response

from configs.models import AppConfig, QuotaConfig
from deployments import quotas
from deployments.ingress import idle_bundle
from deployments.ingress.access import caller_of
from deployments.ingress.answers import Streamed, begun, is_known, told, whole
from deployments.ingress.bodies import AvatarBody, exactly_one, parse
from deployments.ingress.graph_client import GraphClient
from deployments.ingress.pictures import Pictures, parse_size
from deployments.ingress.uploads import read_body
from museserve.access.caller import Caller
from museserve.errors import (
    ConflictError,
    EngineError,
    ForbiddenError,
    MuseserveError,
    PayloadTooLargeError,
    RequestError,
    StoreError,
    UnknownAvatarError,
)
from museserve.media.provenance import Marks
from museserve.messages import EngineInfo, PreparationProgress
from musetalk.avatars.builtin import BUILTIN, resolve
from musetalk.avatars.format import ONE_OFF, Avatar, AvatarMeta, id_of, name_of, tenant_of
from musetalk.avatars.stores import open_store

NDJSON = "application/x-ndjson"
Preparation = AsyncGenerator[PreparationProgress | AvatarMeta, None]


class Avatars:
    def __init__(self, config: AppConfig, graph: GraphClient) -> None:
        self._limits, self._graph, self._marks = config.limits, graph, Marks(config.provenance)
        self._default = resolve(config.avatars.default)
        self._everyones = frozenset((*BUILTIN, self._default))
        self._pictures = Pictures()
        self._store = open_store(config.avatars)
        self._store.watch(sweep=True)

    def id_for(self, caller: Caller, name: str | None) -> str:
        """The id of what a caller names so; None = the default. Raises UnknownAvatarError, ForbiddenError."""
        wanted = resolve(name) if name is not None else caller.avatar or self._default
        if caller.avatar and wanted != caller.avatar:
            raise ForbiddenError(f"this session token is for the avatar {caller.avatar!r} alone")
        tenant = "" if wanted in self._everyones else caller.tenant
        if wanted.startswith(ONE_OFF):
            raise UnknownAvatarError(f"{wanted[:80]!r} is no avatar that can be asked for: it belongs to one request")
        return id_of(tenant, wanted)

    async def open(self, caller: Caller, name: str | None, version: str | None = None) -> Avatar:
        """An avatar by the name that a request gives it. Raises UnknownAvatarError, ForbiddenError, EngineError."""
        return await asyncio.to_thread(self._store.load, self.id_for(caller, name), version)

    async def meta(self, caller: Caller, name: str | None) -> AvatarMeta:
        return (await self.open(caller, name)).meta

    @asynccontextmanager
    async def temporary(self, caller: Caller, image: bytes) -> AsyncIterator[Avatar]:
        """An avatar that is made of a portrait for one request, and removed after it. Nobody else can name it."""
        quotas.charge("preparations")
        name = f"{ONE_OFF}{secrets.token_hex(16)}"
        avatar_id = id_of(caller.tenant, name)
        held = self._store.one_off(avatar_id)
        entering = asyncio.create_task(asyncio.to_thread(held.__enter__))
        try:
            await asyncio.shield(entering)
            made = await _made(self._graph.prepare(image, avatar_id, name, "female"))
            yield await asyncio.to_thread(self._store.load, made.id, made.version)
        finally:
            await asyncio.shield(asyncio.create_task(_left(entering, held)))

    async def any_ready(self, lips: EngineInfo) -> bool:
        """Whether one of those that are everyone's is prepared for what draws the lips."""

        def prepared(avatar_id: str) -> bool:
            try:
                self._store.load(avatar_id, None).require(lips)
            except MuseserveError:
                return False
            return True

        return await asyncio.to_thread(lambda: any(prepared(avatar_id) for avatar_id in (self._default, *BUILTIN)))

    async def list(self, request: Request) -> Response:
        caller = caller_of(request)
        avatars = await asyncio.to_thread(self._store.list, lambda avatar_id: self._is_seen(caller, avatar_id))
        return JSONResponse({"data": [meta.to_json() for meta in avatars]})

    def _is_seen(self, caller: Caller, avatar_id: str) -> bool:
        mine = tenant_of(avatar_id) == caller.tenant
        return (mine or avatar_id in self._everyones) and caller.avatar in ("", name_of(avatar_id))

    async def create(self, request: Request) -> Response:
        upload = await read_body(request, ["image", "video"])
        body = parse(AvatarBody, upload.fields)
        image, clip = upload.files.get("image"), upload.files.get("video")
        exactly_one(image=image, video=clip)
        if image is not None and len(image) > (most := self._limits.max_body_bytes):
            raise PayloadTooLargeError(f"the picture is {len(image):,} bytes; at most {most:,} are accepted")
        if body.id is not None and body.id.startswith(ONE_OFF):
            raise RequestError(f"ids that begin with {ONE_OFF!r} are the service's own; choose another")
        avatar_id = id_of(caller_of(request).tenant, body.id or _slug(body.name))
        if body.id is not None:
            await asyncio.to_thread(self._check_free, avatar_id)
        await self._check_stored(caller_of(request), request.state.quota)
        quotas.charge("preparations")
        steps = self._graph.prepare(image or clip or b"", avatar_id, body.name, body.gender, clip is not None)
        if NDJSON in request.headers.get("accept", ""):
            _, steps = await begun(steps)  # what is wrong before any work begins has its own status
            headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
            return Streamed(_lines(steps), media_type=NDJSON, headers=headers)
        meta = await _made(steps)
        return JSONResponse(meta.to_json(), status_code=201, headers={"Location": f"/v1/avatars/{name_of(meta.id)}"})

    def _check_free(self, avatar_id: str) -> None:
        """Raises ConflictError, StoreError."""
        name = name_of(avatar_id)
        try:
            taken = "exists" if resolve(name) in self._everyones or self._store.exists(avatar_id) else ""
        except StoreError:
            raise
        except EngineError:
            taken = "exists and is damaged"
        if taken:
            raise ConflictError(f"avatar {name!r} {taken}; delete it first or choose another id")

    async def _check_stored(self, caller: Caller, quota: QuotaConfig) -> None:
        """Raises ConflictError: the tenant has as many avatars as its key may. Those that are being made do not count yet."""
        most, most_bytes = quota.avatars, quota.avatar_bytes
        if most is None and most_bytes is None:
            return
        own = await asyncio.to_thread(self._store.list, lambda avatar_id: tenant_of(avatar_id) == caller.tenant and avatar_id not in self._everyones)
        held = sum(file.bytes for meta in own for file in meta.files.values())
        if (most is not None and len(own) >= most) or (most_bytes is not None and held >= most_bytes):
            allowed = [f"{most:,} avatars"] * (most is not None) + [f"{most_bytes or 0:,} bytes"] * (most_bytes is not None)
            raise ConflictError(f"{len(own):,} avatars of {held:,} bytes are stored, and {' and '.join(allowed)} may be; delete one first")

    async def read(self, request: Request) -> Response:
        return JSONResponse((await self.meta(caller_of(request), request.path_params["id"])).to_json())

    async def delete(self, request: Request) -> Response:
        caller, name = caller_of(request), request.path_params["id"]
        avatar_id = self.id_for(caller, name)
        if tenant_of(avatar_id) != caller.tenant:
            raise ConflictError(f"{name!r} is everyone's and is not deleted")
        await asyncio.to_thread(self._store.delete, avatar_id)
        return Response(status_code=204)

    async def portrait(self, request: Request) -> Response:
        """As it is kept, a PNG; with `size`, as browsers show it."""
        if (asked := request.query_params.get("size")) is None:
            return await self._file(request, "image/png", lambda avatar: avatar.portrait_png)
        size = parse_size(asked)
        return await self._file(request, "image/webp", lambda avatar: self._pictures.webp(avatar, size))

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
        caller = caller_of(request)
        avatar = await self.open(caller, request.path_params["id"], version)
        whose = "private" if caller.tenant else "public"  # no proxy in between gives it to somebody without a key
        caching = "no-cache" if version is None else f"{whose}, max-age=31536000, immutable"
        headers = {"ETag": f'"{avatar.ref.version}"', "Cache-Control": caching}
        if is_known(request, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        return whole(request, await asyncio.to_thread(read, avatar), media_type, headers)


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

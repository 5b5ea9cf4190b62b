"""`POST /v1/sessions/tokens`: what a backend gives a browser, in place of its key."""

from __future__ import annotations

import time
from datetime import datetime, timezone

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from configs.models import AppConfig
from deployments.ingress.access import Gate, caller_of
from deployments.ingress.avatars import Avatars
from deployments.ingress.bodies import TokenBody, parse
from deployments.ingress.uploads import read_body
from museserve.access import tokens
from museserve.errors import ConflictError, ForbiddenError, RequestError
from musetalk.avatars.format import name_of


class Tokens:
    def __init__(self, config: AppConfig, gate: Gate, avatars: Avatars) -> None:
        self._access, self._gate, self._avatars = config.access, gate, avatars

    async def create(self, request: Request) -> Response:
        caller = caller_of(request)
        if self._gate.keys is None:
            raise ConflictError("access.auth is none here: whoever reaches the service may use it, without a token")
        if caller.token:
            raise ForbiddenError("a session token makes no other; this takes the key itself")
        body = parse(TokenBody, (await read_body(request)).fields)
        seconds = body.seconds or self._access.token_s
        if seconds > self._access.token_max_s:
            raise RequestError(f"seconds is {seconds}; at most {self._access.token_max_s} are accepted (access.token_max_s)")
        avatar = "" if body.avatar is None else name_of((await self._avatars.meta(caller, body.avatar)).id)
        expires = int(time.time()) + seconds
        grant = tokens.Grant(caller.tenant, caller.key, expires, body.uses, avatar, body.origin or "")
        until = datetime.fromtimestamp(expires, timezone.utc).isoformat()
        told = {"token": tokens.mint(self._gate.keys.token_secret, grant), "expires_at": until, "uses": body.uses}
        return JSONResponse(told, status_code=201, headers={"Cache-Control": "no-store"})

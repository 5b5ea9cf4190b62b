"""Session tokens: what a backend that has a key gives a browser, so that no key is ever in a page.

A token is `mst_<payload>.<signature>`, both base64url: JSON, and its HMAC-SHA256 with the secret of the keys file. Every replica
knows it without asking anybody; what it was made with must still be valid.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass

from museserve.access.caller import Caller, Scope
from museserve.errors import UnauthorizedError

PREFIX = "mst_"
SCOPES: frozenset[Scope] = frozenset({"speak"})
OPERATOR = "operator"  # stands for a key where who has the file itself makes a token, to try the service


@dataclass(frozen=True)
class Grant:
    """What a token lets its bearer do, until the second `expires` (Unix time). origin: the pages it is for; "" = all."""

    tenant: str
    key: str
    expires: int
    uses: int
    avatar: str = ""
    origin: str = ""
    id: str = ""

    @property
    def caller(self) -> Caller:
        return Caller(self.tenant, self.key, SCOPES, self.id, self.uses, self.avatar)


def mint(secret: bytes, grant: Grant) -> str:
    """The token; `grant.id` is chosen here."""
    told = [grant.tenant, grant.key, grant.expires, grant.uses, grant.avatar, grant.origin, secrets.token_hex(8)]
    payload = _encoded(json.dumps(told, separators=(",", ":")).encode())
    return f"{PREFIX}{payload}.{_signature(secret, payload)}"


def read(secret: bytes, token: str, origin: str | None) -> Grant:
    """origin: of the page that shows it; None = no browser, or a page of this service. Raises UnauthorizedError."""
    payload, _, signature = token.removeprefix(PREFIX).partition(".")
    if not hmac.compare_digest(_signature(secret, payload).encode(), signature.encode("utf-8", "surrogatepass")):
        raise UnauthorizedError("this is no session token of the service")
    grant = Grant(*json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))
    if grant.expires <= time.time():
        raise UnauthorizedError("the session token has expired; ask the backend for another")
    if grant.origin and origin is not None and origin != grant.origin:
        raise UnauthorizedError(f"the session token is for pages of {grant.origin}, this one is of {origin}")
    return grant


def _signature(secret: bytes, payload: str) -> str:
    return _encoded(hmac.new(secret, payload.encode("utf-8", "surrogatepass"), hashlib.sha256).digest())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")

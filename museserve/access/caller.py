"""Who calls: the tenant that what they make belongs to, and what they may do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Scope = Literal["speak", "avatars", "metrics"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


@dataclass(frozen=True)
class Caller:
    """One who was let in. tenant, key: "" where `access.auth` is none; else the tenant's name and the id of its key.

    token: of a session token, its id; "" for whoever has the key itself. uses: how many sessions or videos it may begin.
    avatar: the only one that it may use; "" = all of the tenant's.
    """

    tenant: str = ""
    key: str = ""
    scopes: frozenset[Scope] = frozenset(SCOPES)
    token: str = ""
    uses: int = 0
    avatar: str = ""

    def may(self, wanted: Iterable[Scope]) -> bool:
        """Whether it has one of these scopes."""
        return not self.scopes.isdisjoint(wanted)


EVERYBODY = Caller()  # without keys

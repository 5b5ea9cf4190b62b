"""What each key may use, counted in this process: every ingress replica has counts of its own, and they are lost with it.

A request's `Usage` is found by its context (`CURRENT`), so that whatever is done for it can be charged where it is known.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

from configs.models import LimitsConfig, QuotaConfig
from museserve.errors import QuotaError

Charge = Literal["requests", "chars", "preparations", "upload_bytes"]
# Name of a policy -> what it counts, the key of the configuration, seconds.
POLICIES: dict[str, tuple[Charge, str, int]] = {
    "requests": ("requests", "requests_per_min", 60),
    "chars-minute": ("chars", "chars_per_min", 60),
    "chars-day": ("chars", "chars_per_day", 86_400),
    "preparations-day": ("preparations", "preparations_per_day", 86_400),
    "upload-bytes-day": ("upload_bytes", "upload_bytes_per_day", 86_400),
}
KEPT = 10_000  # keys or addresses whose counts are remembered
KEY = "key "  # and its id: whose counts they are
RETRY_S = 2  # where a place is wanted that an utterance has


class Usage:
    """Of one key or address. quota: the limits as they are now."""

    def __init__(self, quota: QuotaConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self.quota, self._clock = quota, clock
        self.live = 0
        self._windows: dict[str, tuple[float, int]] = {}  # by policy: since when, and how much

    def charge(self, what: Charge, n: int = 1) -> None:
        """All of it or nothing. Raises QuotaError."""
        for name, limit, seconds in self._policies(what):
            left, reset_s = self._left(name, limit, seconds)
            if n > left:
                never = n > limit
                said = f"{n:,} of {what.replace('_', ' ')} are more than this key may have" if never else f"{left:,} of {limit:,} are left"
                raise _exceeded(f"the quota {name!r} allows {limit:,} in {seconds:,} s: {said}", math.ceil(reset_s) or 1)
        for name, _, seconds in self._policies(what):
            since, used = self._windows.get(name, (0.0, 0))
            now = self._clock()
            fresh = name not in self._windows or now - since >= seconds
            self._windows[name] = (now, n) if fresh else (since, used + n)

    @contextmanager
    def living(self) -> Iterator[None]:
        """While an utterance is made. Raises QuotaError."""
        most = self.quota.live_utterances
        if most is not None and self.live >= most:
            raise _exceeded(f"{self.live} utterances of this key are live, and {most} may be", RETRY_S)
        self.live += 1
        try:
            yield
        finally:
            self.live -= 1

    def headers(self) -> dict[str, str]:
        """`RateLimit-Policy` and `RateLimit`, as draft-ietf-httpapi-ratelimit-headers-10 has them; empty without limits."""
        policies, states = [], []
        for what in dict.fromkeys(what for what, _, _ in POLICIES.values()):
            for name, limit, seconds in self._policies(what):
                left, reset_s = self._left(name, limit, seconds)
                policies.append(f'"{name}";q={limit};w={seconds}')
                states.append(f'"{name}";r={left};t={math.ceil(reset_s)}')
        return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(states)} if policies else {}

    def _policies(self, wanted: Charge) -> list[tuple[str, int, int]]:
        named = [(name, getattr(self.quota, key), seconds) for name, (what, key, seconds) in POLICIES.items() if what == wanted]
        return [(name, limit, seconds) for name, limit, seconds in named if limit is not None]

    def _left(self, name: str, limit: int, seconds: int) -> tuple[int, float]:
        """How much, and in how many seconds it is whole again."""
        since, used = self._windows.get(name, (0.0, 0))
        reset_s = since + seconds - self._clock()
        if name not in self._windows or reset_s <= 0:
            return limit, 0.0
        return max(0, limit - used), reset_s


class Quotas:
    """Of all keys, or, where that is configured and there are no keys, of all addresses."""

    def __init__(self, config: LimitsConfig) -> None:
        self._used: OrderedDict[str, Usage] = OrderedDict()
        self.configure(config)

    def configure(self, config: LimitsConfig) -> None:
        """What was used stays used."""
        self._config = config
        for who, usage in self._used.items():
            usage.quota = self.quota(_key(who))

    def of(self, key: str, address: str) -> Usage | None:
        """key: "" where there are none. None: nothing is limited."""
        who = f"{KEY}{key}" if key else f"address {address}" if self._config.quota_by_address else ""
        if not who:
            return None
        usage = self._used.get(who)
        if usage is None:
            usage = self._used[who] = Usage(self.quota(key))
            while len(self._used) > KEPT:
                self._used.popitem(last=False)
        self._used.move_to_end(who)
        return usage

    def quota(self, key: str) -> QuotaConfig:
        """What a key may; "" = whoever has none."""
        own, everyones = self._config.quotas.get(key), self._config.quota
        return everyones if own is None else everyones.model_copy(update=own.model_dump(exclude_unset=True))


def _key(who: str) -> str:
    return who.removeprefix(KEY) if who.startswith(KEY) else ""


CURRENT: ContextVar[Usage | None] = ContextVar("usage", default=None)


def charge(what: Charge, n: int = 1) -> None:
    """To whoever is served in this context. Raises QuotaError."""
    if n and (usage := CURRENT.get()) is not None:
        usage.charge(what, n)


@contextmanager
def living() -> Iterator[None]:
    """Raises QuotaError."""
    usage = CURRENT.get()
    if usage is None:
        yield
        return
    with usage.living():
        yield


def _exceeded(message: str, retry_after_s: int) -> QuotaError:
    error = QuotaError(f"{message}; try again in {retry_after_s:,} s")
    error.retry_after_s = retry_after_s
    return error

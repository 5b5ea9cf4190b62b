"""What a key may use: windows, places, overrides, and what callers are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from configs.models import LimitsConfig
from deployments import quotas
from deployments.ingress.answers import HANDLERS
from deployments.ingress.rate_limit import RateLimit
from deployments.quotas import Quotas, Usage
from museserve.access.caller import Caller
from museserve.errors import QuotaError

CONFIG = LimitsConfig.model_validate(
    {
        "quota": {"requests_per_min": 3, "chars_per_min": 100, "chars_per_day": 150, "live_utterances": 1},
        "quotas": {"big": {"requests_per_min": 10}},
    }
)


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_window_is_whole_again_after_its_time_and_says_when() -> None:
    clock = Clock()
    usage = Usage(CONFIG.quota, clock)
    usage.charge("chars", 90)
    clock.now += 20
    with pytest.raises(QuotaError, match="10 of 100 are left") as refused:
        usage.charge("chars", 20)
    assert (refused.value.status, refused.value.retry_after_s) == (429, 40)
    assert '"chars-minute";r=10;t=40, "chars-day";r=60;t=86380' in usage.headers()["RateLimit"]
    clock.now += 40
    usage.charge("chars", 60)  # the minute is new, the day is not
    with pytest.raises(QuotaError, match="chars-day"):
        usage.charge("chars", 1)
    assert usage.headers()["RateLimit-Policy"] == '"requests";q=3;w=60, "chars-minute";q=100;w=60, "chars-day";q=150;w=86400'


def test_more_than_a_whole_window_never_fits() -> None:
    with pytest.raises(QuotaError, match="more than this key may have"):
        Usage(CONFIG.quota).charge("chars", 101)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 60)), max_size=60))
def test_no_window_ever_gives_more_than_its_limit(charges: list[tuple[int, int]]) -> None:
    clock = Clock()
    usage = Usage(CONFIG.quota, clock)
    had: list[tuple[float, int]] = []
    for pause, n in charges:
        clock.now += pause
        try:
            usage.charge("chars", n)
        except QuotaError as refused:
            assert 1 <= (refused.retry_after_s or 0) <= 86_400
        else:
            had.append((clock.now, n))
    assert sum(n for _, n in had) <= 150
    # A window begins with what is used first, so two of them touch: twice the limit in any minute at most.
    assert all(sum(n for at, n in had if start <= at < start + 60) <= 200 for start, _ in had)


def test_places_come_back() -> None:
    usage = Usage(CONFIG.quota)
    with usage.living(), pytest.raises(QuotaError, match="1 may be"), usage.living():
        pass
    with usage.living():
        assert usage.live == 1
    assert usage.live == 0


def test_a_key_of_its_own_limits_and_changes_while_it_runs() -> None:
    counted = Quotas(CONFIG)
    small, big = counted.of("small", "192.0.2.1"), counted.of("big", "192.0.2.1")
    assert small is not None and big is not None
    assert (small.quota.requests_per_min, big.quota.requests_per_min, big.quota.live_utterances) == (3, 10, 1)
    assert counted.of("", "192.0.2.1") is None
    counted.configure(CONFIG.model_copy(update={"quotas": {}, "quota_by_address": True}))
    assert big.quota.requests_per_min == 3 and counted.of("", "192.0.2.1") is not counted.of("", "192.0.2.2")


class Known:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {"caller": Caller(key="k")}
        await self._app(scope, receive, send)


def test_over_http() -> None:
    async def speak(request: Request) -> Response:
        quotas.charge("chars", 60)
        return JSONResponse({})

    middleware = [Middleware(Known), Middleware(RateLimit, quotas=Quotas(CONFIG), free=frozenset({"/health"}))]
    routes = [Route("/speak", speak), Route("/health", lambda request: JSONResponse({}))]
    with TestClient(Starlette(routes=routes, middleware=middleware, exception_handlers=HANDLERS)) as client:
        answers = [client.get("/speak") for _ in range(4)]
        free = client.get("/health")
    assert [answer.status_code for answer in answers] == [200, 429, 429, 429]
    assert answers[0].headers["ratelimit"].startswith('"requests";r=2;t=60, "chars-minute";r=40;t=60')
    assert "chars-minute" in answers[1].json()["error"]["message"] and '"requests"' not in answers[1].json()["error"]["message"]
    assert answers[3].json()["error"]["code"] == "quota_exceeded" and "'requests'" in answers[3].json()["error"]["message"]
    assert 0 < int(answers[3].headers["retry-after"]) <= 60 and '"requests";r=0' in answers[3].headers["ratelimit"]
    assert free.status_code == 200 and "ratelimit" not in free.headers

"""What a viewer sees and hears, over real connections of WebRTC and the real service."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import numpy as np
import pytest
from aiohttp.test_utils import TestServer
from aiortc import RTCConfiguration, RTCPeerConnection
from conftest import PAGE, TEXT
from museserve_client.face import FPS
from museserve_whep import Gateway
from viewer import heard, looking, offered

from tests.peer_media import at_48_khz

LIPS, STILL = 8.0, 3.0  # levels of a part of the face: lips that speak, and a head that does not
PEER_LOOK = 4_800  # samples: a tenth of a second


async def test_a_face_idles_speaks_and_idles(gateway: str, http: aiohttp.ClientSession, pcm: bytes) -> None:
    async with looking(gateway, http) as seen:
        await seen.until(lambda: len(seen.pictures) > 2 * FPS)
        assert not np.abs(seen.samples()).max() > 1 and seen.moved() < STILL
        times = np.diff([at for _, at, _ in seen.pictures])
        assert np.median(times) == pytest.approx(1 / FPS, abs=1e-4) and times.min() > 0.039
        asked = time.perf_counter()
        async with http.post(f"{seen.resource}/speak", json={"text": TEXT}) as answer:
            assert answer.status == 200
            said = await answer.json()
        assert said == {"heard_ms": round(len(pcm) / 48), "interrupted": False}
        await asyncio.sleep(0.5)
        alike = heard(at_48_khz(pcm), seen.samples(asked))
        assert len(alike) > 4 and np.median(alike) > 0.9 and seen.moved(asked) > LIPS
        after = time.perf_counter()
        await asyncio.sleep(1.0)
        assert np.abs(seen.samples(after)).max() < 30 and seen.moved(after) < STILL, seen.moved(after)
        assert seen.pictures[0][2].shape == (128, 128)


async def test_what_is_interrupted_falls_silent_and_says_how_far_it_came(gateway: str, http: aiohttp.ClientSession, pcm: bytes) -> None:
    async with looking(gateway, http) as seen:
        first = asyncio.create_task(http.post(f"{seen.resource}/speak", json={"text": TEXT}))
        second = asyncio.create_task(http.post(f"{seen.resource}/speak", json={"text": "This waits, and is never heard."}))
        await seen.until(lambda: np.abs(seen.samples()[-PEER_LOOK:]).max(initial=0) > 1_000)
        async with http.post(f"{seen.resource}/interrupt") as answer:
            assert answer.status == 204
        for asked, most in ((first, len(pcm) / 48), (second, 1)):
            async with await asked as answer:
                said = await answer.json()
                assert said["interrupted"] and said["heard_ms"] < most
        await asyncio.sleep(0.6)
        since = time.perf_counter()
        await asyncio.sleep(0.6)
        assert np.abs(seen.samples(since)).max() < 30
        async with http.post(f"{seen.resource}/speak", json={"text": "It goes on."}) as answer:
            assert (await answer.json())["interrupted"] is False


async def test_who_leaves_makes_room(gateway: str, http: aiohttp.ClientSession) -> None:
    async def viewers() -> int:
        async with http.get(f"{gateway}/health") as answer:
            return int((await answer.json())["viewers"])

    async with looking(gateway, http) as one, looking(gateway, http):
        assert await viewers() == 2
        peer = RTCPeerConnection(RTCConfiguration([]))
        async with http.post(f"{gateway}/whep", data=await offered(peer), headers={"Content-Type": "application/sdp"}) as answer:
            assert answer.status == 503 and answer.headers["Retry-After"] and (await answer.json())["error"]["code"] == "full"
        await peer.close()
        async with http.delete(one.resource) as answer:
            assert answer.status == 200
        await one.until(lambda: one.state == "closed")
        async with http.delete(one.resource) as answer:
            assert answer.status == 404
        async with http.post(f"{one.resource}/speak", json={"text": TEXT}) as answer:
            assert answer.status == 404
        assert await viewers() == 1
    for _ in range(100):
        if not await viewers():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("who closed his connection is still there")


async def test_what_is_refused(gateway: str, http: aiohttp.ClientSession) -> None:
    peer = RTCPeerConnection(RTCConfiguration([]))
    offer = await offered(peer)
    await peer.close()
    peer = RTCPeerConnection(RTCConfiguration([]))
    no_h264 = await offered(peer, "video/VP8")
    await peer.close()
    no_sound = offer[: offer.index("m=audio")] + offer[offer.index("m=video") :] if offer.index("m=audio") < offer.index("m=video") else offer
    sdp = {"Content-Type": "application/sdp"}
    for body, headers, query, status, code in (
        (offer, {"Content-Type": "text/plain"}, "", 415, "not_sdp"),
        ("v=0\r\nm=what", sdp, "", 400, "bad_offer"),
        ("", sdp, "", 400, "bad_offer"),
        (no_sound.replace("a=group:BUNDLE 0 1", "a=group:BUNDLE 1"), sdp, "", 400, "bad_offer"),
        (no_h264, sdp, "", 406, "no_codec"),
        (offer, sdp, "?avatar=nobody", 400, "unknown_avatar"),
        ("x" * 70_000, sdp, "", 413, "http"),
    ):
        async with http.post(f"{gateway}/whep{query}", data=body, headers=headers) as answer:
            said = await answer.text()
            assert (answer.status, (await answer.json())["error"]["code"]) == (status, code), said
    async with http.get(f"{gateway}/health") as answer:
        assert (await answer.json())["viewers"] == 0
    async with http.patch(f"{gateway}/whep/x", data="") as answer:
        assert answer.status == 405 and "DELETE" in answer.headers["Allow"]


@pytest.mark.parametrize(
    "body",
    [
        {"text": ""},
        {"say": "Hello."},
        {"text": "Hello.", "speed": "fast"},
        {"text": "Hello.", "pitch": 2},
        ["Hello."],
        {"text": "Hello.", "speed": 99},
        {"text": "Hello.", "voice": "nobody"},
    ],
)
async def test_what_is_not_said(gateway: str, http: aiohttp.ClientSession, body: object) -> None:
    async with looking(gateway, http) as seen:
        async with http.post(f"{seen.resource}/speak", json=body) as answer:
            assert answer.status == 400, await answer.text()
            assert set((await answer.json())["error"]) == {"code", "message"}
        async with http.post(f"{seen.resource}/speak", json={"text": "Yes."}) as answer:
            assert (await answer.json())["heard_ms"] > 100


async def test_pages_that_may_ask(gateway: str, http: aiohttp.ClientSession) -> None:
    for origin, allowed in ((PAGE, PAGE), ("http://other.example", None)):
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        async with http.options(f"{gateway}/whep", headers=asked) as answer:
            assert answer.headers.get("Access-Control-Allow-Origin") == allowed
        async with http.post(f"{gateway}/whep", headers={"Origin": origin}) as answer:
            assert answer.status == 415 and answer.headers.get("Access-Control-Allow-Origin") == allowed


async def test_a_name_that_is_not_its_own(gateway: str, http: aiohttp.ClientSession) -> None:
    for name, status in (("other.example", 403), ("localhost:8010", 200), ("127.0.0.1", 200), ("[::1]:8010", 200)):
        async with http.get(f"{gateway}/health", headers={"Host": name}) as answer:
            assert answer.status == status
    async with TestServer(Gateway("http://127.0.0.1:9", hosts=["avatars.example"]).app) as server:
        async with http.get(server.make_url("/health"), headers={"Host": "avatars.example"}) as answer:
            assert answer.status == 200


async def test_a_service_that_is_not_there(http: aiohttp.ClientSession) -> None:
    peer = RTCPeerConnection(RTCConfiguration([]))
    async with TestServer(Gateway("http://127.0.0.1:9").app) as server:
        async with http.post(server.make_url("/whep"), data=await offered(peer), headers={"Content-Type": "application/sdp"}) as answer:
            assert answer.status == 502 and answer.headers["Retry-After"] and (await answer.json())["error"]["code"] == "unreachable"
    await peer.close()

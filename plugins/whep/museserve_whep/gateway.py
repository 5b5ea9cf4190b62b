"""WHEP (draft-ietf-wish-whep) before museserve, over aiohttp: `POST /whep` answers an offer; the resource speaks, is interrupted and deleted."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
from collections.abc import Awaitable, Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.exceptions import OperationError
from museserve_client import Client, ClosedError, MuseserveError, ServiceError, UnreachableError
from yarl import URL

from museserve_whep.face import PATIENCE_S, Face

logger = logging.getLogger(__name__)

CONNECT_S = 20.0  # for a viewer to be there after his answer
AGAIN_S = 5
CLOSED = {4000: 400, 4010: 401, 4011: 403, 4013: 503}  # what a session was refused with, as a status
SDP_BYTES = 64 * 1024
VIEWERS = 32
SPEAK: dict[str, tuple[type, ...]] = {"text": (str,), "voice": (str,), "speed": (int, float), "language": (str,)}


class Refusal(Exception):
    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers


@dataclass
class Viewer:
    peer: RTCPeerConnection
    face: Face
    client: Client
    running: asyncio.Task[None] | None = None


class Gateway:
    """`app` is an aiohttp application.

    url: of museserve. key: for viewers who bring no bearer token of their own, which goes to museserve as it is. origins: of pages that may ask;
    "*" for any. hosts: names that the gateway is reached by, beside addresses and localhost; "*" for any: a page whose name was pointed
    to this machine is no page of ours. ice_servers: for a gateway behind an address translation. viewers: at once. patience_s: as of `Face`.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        origins: Collection[str] = (),
        hosts: Collection[str] = (),
        ice_servers: Collection[RTCIceServer] = (),
        viewers: int = VIEWERS,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._url, self._key, self._most, self._patience_s = url, key, viewers, patience_s
        self._origins, self._hosts = frozenset(origins), frozenset(hosts)
        self._ice = RTCConfiguration(list(ice_servers))
        self._viewers: dict[str, Viewer] = {}
        self._coming = 0
        self.app = web.Application(middlewares=[self._answer], client_max_size=SDP_BYTES)
        self.app.router.add_post("/whep", self._begin)
        self.app.router.add_delete("/whep/{id}", self._end)
        self.app.router.add_post("/whep/{id}/speak", self._speak)
        self.app.router.add_post("/whep/{id}/interrupt", self._interrupt)
        self.app.router.add_get("/health", self._health)
        self.app.on_shutdown.append(self._close)

    # --- HTTP -------------------------------------------------------------------------------------------------------

    @web.middleware
    async def _answer(self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        answer: web.StreamResponse
        if request.method == "OPTIONS":
            answer = web.Response(status=204)
        else:
            try:
                self._check_host(request)
                answer = await handler(request)
            except Refusal as refusal:
                answer = _error(refusal.status, refusal.code, str(refusal), refusal.headers)
            except ServiceError as error:
                again = {} if error.retry_after_s is None else {"Retry-After": f"{error.retry_after_s:.0f}"}
                answer = _error(error.status or 502, error.code, str(error.args[0]), again)
            except ClosedError as error:
                status = CLOSED.get(error.close_code or 0, 502)
                answer = _error(status, error.code, str(error), {"Retry-After": str(AGAIN_S)} if status == 503 else {})
            except UnreachableError as error:
                answer = _error(502, "unreachable", str(error), {"Retry-After": str(AGAIN_S)})
            except MuseserveError as error:
                answer = _error(502, "failed", str(error), {})
            except web.HTTPException as error:
                answer = _error(error.status, "http", error.reason, {name: error.headers[name] for name in ("Allow",) if name in error.headers})
            except Exception:
                logger.exception("%s %s", request.method, request.path)
                answer = _error(500, "internal", "the gateway failed; its log tells how", {})
        origin = request.headers.get("Origin", "")
        if origin and ("*" in self._origins or origin in self._origins):
            answer.headers.update(
                {
                    "Access-Control-Allow-Origin": origin,
                    "Access-Control-Allow-Methods": "POST, DELETE",
                    "Access-Control-Allow-Headers": "Authorization, Content-Type",
                    "Access-Control-Expose-Headers": "Location, Retry-After",
                    "Vary": "Origin",
                }
            )
        return answer

    def _check_host(self, request: web.Request) -> None:
        name = URL(f"//{request.host}").host or ""
        if "*" in self._hosts or name in ("", "localhost") or name in self._hosts or _is_address(name):
            return
        raise Refusal(403, "forbidden", f"this gateway is not asked for as {name[:100]!r}; --name names what it is")

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"viewers": len(self._viewers), "most": self._most})

    async def _begin(self, request: web.Request) -> web.Response:
        if request.content_type != "application/sdp":
            raise Refusal(415, "not_sdp", f"an offer is application/sdp, got {request.content_type}")
        if len(self._viewers) + self._coming >= self._most:
            raise Refusal(503, "full", f"{self._most} viewers are there", **{"Retry-After": str(AGAIN_S)})
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        client = Client(self._url, token.strip() if scheme.lower() == "bearer" else self._key)
        viewer = Viewer(RTCPeerConnection(self._ice), Face(client, request.query.get("avatar"), self._patience_s), client)
        self._coming += 1
        try:
            answer = await self._negotiate(viewer, await request.text())
        except BaseException:
            await self._let_go(viewer)
            raise
        finally:
            self._coming -= 1
        id = secrets.token_urlsafe(24)
        self._viewers[id] = viewer
        viewer.running = asyncio.create_task(self._show(id, viewer))
        return web.Response(status=201, text=answer, content_type="application/sdp", headers={"Location": f"/whep/{id}"})

    async def _negotiate(self, viewer: Viewer, offer: str) -> str:
        """The answer. All candidates are in it: there is nothing to trickle."""
        peer, face = viewer.peer, viewer.face
        video, _ = (peer.addTransceiver(track, "sendonly") for track in (face.video, face.audio))
        codecs = RTCRtpSender.getCapabilities("video").codecs
        video.setCodecPreferences([codec for codec in codecs if codec.mimeType in ("video/H264", "video/rtx")])
        try:
            await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        except OperationError as error:
            raise Refusal(406, "no_codec", "the pictures are H.264 and the sound is Opus; the offer does not take them") from error
        except Exception as error:  # aiortc's parser raises whatever the line made it raise
            raise Refusal(400, "bad_offer", f"the offer cannot be read: {error!r}") from error
        if any(transceiver.mid is None for transceiver in peer.getTransceivers()):
            raise Refusal(400, "bad_offer", "the offer has to ask for pictures and for sound")
        await face.open()
        await peer.setLocalDescription(await peer.createAnswer())
        return str(peer.localDescription.sdp)

    def _viewer(self, request: web.Request) -> Viewer:
        viewer = self._viewers.get(request.match_info["id"])
        if viewer is None:
            raise Refusal(404, "not_found", "nobody looks there; he left, or never came")
        return viewer

    async def _end(self, request: web.Request) -> web.Response:
        viewer = self._viewer(request)
        del self._viewers[request.match_info["id"]]
        await viewer.peer.close()
        return web.Response(status=200)

    async def _speak(self, request: web.Request) -> web.Response:
        """Answers once it was said: what of it was heard, and whether it was interrupted."""
        viewer, asked = self._viewer(request), await _asked(request)
        async with aclosing(viewer.client.speak(asked.pop("text"), format="pcm", **{"speed": 1.1, **asked})) as sound:
            heard_ms, interrupted = await viewer.face.speak(sound)
        return web.json_response({"heard_ms": heard_ms, "interrupted": interrupted})

    async def _interrupt(self, request: web.Request) -> web.Response:
        self._viewer(request).face.interrupt()
        return web.Response(status=204)

    # --- a viewer ---------------------------------------------------------------------------------------------------

    async def _show(self, id: str, viewer: Viewer) -> None:
        """Until he leaves."""
        peer, there = viewer.peer, asyncio.Event()

        @peer.on("connectionstatechange")
        def look() -> None:
            if peer.connectionState in ("connected", "failed", "closed"):
                there.set()

        try:
            look()
            await asyncio.wait_for(there.wait(), CONNECT_S)  # what was made before would be sent to nobody, all at once later
            await viewer.face.run(lambda: peer.connectionState == "connected")
        except asyncio.TimeoutError:
            logger.info("a viewer did not come within %g s", CONNECT_S)
        except Exception:
            logger.exception("a face stopped")
        finally:
            self._viewers.pop(id, None)
            await self._let_go(viewer)

    async def _let_go(self, viewer: Viewer) -> None:
        await viewer.face.aclose()
        await viewer.peer.close()
        await viewer.client.aclose()

    async def _close(self, app: web.Application) -> None:
        viewers = list(self._viewers.values())
        await asyncio.gather(*(viewer.peer.close() for viewer in viewers))
        await asyncio.gather(*(viewer.running for viewer in viewers if viewer.running is not None), return_exceptions=True)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _asked(request: web.Request) -> dict[str, Any]:
    try:
        asked = await request.json()
    except ValueError as error:
        raise Refusal(400, "bad_request", f"the body is no JSON: {error}") from error
    if not isinstance(asked, dict) or not isinstance(asked.get("text"), str) or not asked["text"].strip():
        raise Refusal(400, "bad_request", 'the body is {"text": "…"}, with voice, speed and language where they are wanted')
    for name, value in asked.items():
        if name not in SPEAK or not isinstance(value, SPEAK[name]) or isinstance(value, bool):
            raise Refusal(400, "bad_request", f"{name!r} is none of {', '.join(SPEAK)}, or of another type")
    return asked


def _error(status: int, code: str, message: str, headers: dict[str, str]) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status, headers=headers)

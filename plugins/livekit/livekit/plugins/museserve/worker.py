"""`museserve-livekit worker`: joins rooms that agents ask for, and publishes the face there.

POST /launch   JSON: livekit_url, token, agent_identity; avatar, audio_sample_rate. Answers when the room is joined
GET /health    {"rooms": 3}
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import os
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from livekit import rtc
from livekit.agents.voice.avatar import DataStreamAudioReceiver
from museserve_client import MuseserveError

from .generator import VideoGenerator
from .log import logger
from .runner import AvatarRunner

JOIN_S = 20.0
GONE_S = 30.0  # an agent that left comes back within so long, or the worker leaves, too
REQUIRED, OPTIONAL = {"livekit_url": str, "token": str, "agent_identity": str}, {"avatar": str, "audio_sample_rate": int}


class Rooms:
    """The rooms that this worker is in. key: what callers must have; None = nobody is asked."""

    def __init__(self, url: str | None, key: str | None, worker_key: str | None, most: int) -> None:
        self._url, self._key, self._worker_key, self._most = url, key, worker_key, most
        self._rooms: set[asyncio.Task[None]] = set()

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._let_in])
        app.add_routes([web.post("/launch", self.launch), web.get("/health", self.health)])
        app.on_shutdown.append(self._leave_all)
        return app

    @web.middleware
    async def _let_in(self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        wanted = f"Bearer {self._worker_key}".encode()
        if self._worker_key and request.path != "/health" and not hmac.compare_digest(request.headers.get("Authorization", "").encode(), wanted):
            return _refused(401, "unauthorized", "the key was not accepted")
        return await handler(request)

    async def health(self, request: web.Request) -> web.Response:
        return web.json_response({"rooms": len(self._rooms), "most": self._most})

    async def launch(self, request: web.Request) -> web.Response:
        if len(self._rooms) >= self._most:
            return _refused(503, "busy", f"this worker is in {self._most} rooms, as many as it takes")
        try:
            asked = _checked(await request.json())
        except ValueError as error:
            return _refused(400, "invalid_request", str(error))
        joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._be_in_room(asked, joined))
        self._rooms.add(task)
        task.add_done_callback(self._rooms.discard)
        try:
            await asyncio.wait_for(asyncio.shield(joined), JOIN_S)
        except (MuseserveError, rtc.ConnectError, asyncio.TimeoutError) as error:
            if not joined.done():
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return _refused(502, "not_joined", f"{type(error).__name__}: {error}")
        return web.json_response({"joined": True})

    async def _be_in_room(self, asked: dict[str, Any], joined: asyncio.Future[None]) -> None:
        """Until the agent has left, or the room is over."""
        room, left = rtc.Room(), asyncio.Event()
        generator = VideoGenerator(self._url, self._key, avatar=asked.get("avatar"), audio_sample_rate=asked.get("audio_sample_rate") or 24_000)
        runner: AvatarRunner | None = None
        gone: asyncio.TimerHandle | None = None
        agent = asked["agent_identity"]

        def participant_left(participant: rtc.RemoteParticipant) -> None:
            nonlocal gone
            if participant.identity == agent:
                gone = asyncio.get_running_loop().call_later(GONE_S, left.set)

        def participant_came(participant: rtc.RemoteParticipant) -> None:
            if participant.identity == agent and gone is not None:
                gone.cancel()

        room.on("participant_disconnected", participant_left)
        room.on("participant_connected", participant_came)
        room.on("disconnected", lambda _: left.set())
        try:
            await generator.start()
            await room.connect(asked["livekit_url"], asked["token"])
            joined.set_result(None)
            runner = AvatarRunner(room, audio_recv=DataStreamAudioReceiver(room, sender_identity=agent), video_gen=generator)
            await runner.start()
            await left.wait()
        except Exception as error:
            if joined.done():
                logger.exception("the face left a room")
            else:
                joined.set_exception(error)
        finally:
            if runner is not None:
                await runner.aclose()
            await generator.aclose()
            await room.disconnect()

    async def _leave_all(self, app: web.Application) -> None:
        for task in self._rooms:
            task.cancel()
        await asyncio.gather(*self._rooms, return_exceptions=True)


def _checked(body: Any) -> dict[str, Any]:
    """Raises ValueError naming what is wrong."""
    if not isinstance(body, dict):
        raise ValueError("a JSON object is wanted")
    accepted = REQUIRED | OPTIONAL
    if unknown := set(body) - set(accepted):
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}; accepted: {', '.join(accepted)}")
    for name, kind in accepted.items():
        if body.get(name) is None and name in REQUIRED:
            raise ValueError(f"{name} is missing")
        if body.get(name) is not None and not isinstance(body[name], kind):
            raise ValueError(f"{name} is a {kind.__name__}, got {body[name]!r}")
    return body


def _refused(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status)


def main() -> None:
    parser = argparse.ArgumentParser(prog="museserve-livekit", description="The face of museserve in LiveKit rooms.")
    commands = parser.add_subparsers(dest="command", required=True)
    worker = commands.add_parser("worker", help="join rooms that agents ask for", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    worker.add_argument("--host", default="127.0.0.1")
    worker.add_argument("--port", type=int, default=8102)
    worker.add_argument("--url", default=os.getenv("MUSESERVE_URL"), help="of museserve")
    worker.add_argument("--rooms", type=int, default=4, help="at once")
    args = parser.parse_args()
    worker_key = os.getenv("MUSESERVE_WORKER_KEY")
    if args.host not in ("127.0.0.1", "localhost", "::1") and not worker_key:
        parser.error("set MUSESERVE_WORKER_KEY: others than this machine can reach the worker there")
    web.run_app(Rooms(args.url, os.getenv("MUSESERVE_KEY"), worker_key, args.rooms).app(), host=args.host, port=args.port)


if __name__ == "__main__":
    main()

"""A face for an agent's room: in the agent's own process, or by a worker that joins the room by itself."""

from __future__ import annotations

import os

from livekit import api, rtc
from livekit.agents import NOT_GIVEN, AgentSession, NotGivenOr, get_job_context, utils
from livekit.agents.voice import avatar
from livekit.agents.voice.room_io import ATTRIBUTE_PUBLISH_ON_BEHALF

from .api import WorkerAPI
from .generator import VideoGenerator
from .log import logger
from .runner import AvatarRunner

IDENTITY = "museserve-avatar"


class AvatarSession(avatar.AvatarSession[str]):
    """`await AvatarSession().start(session, room=ctx.room)` before `session.start(...)`.

    Without `worker_url` the agent's process publishes pictures and sound itself, as its own participant. With it a worker (`museserve-livekit
    worker`) joins the room as a participant of its own, and decodes and publishes there.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        key: str | None = None,
        avatar: str | None = None,
        audio_sample_rate: int = 24_000,
        patience_s: float = 1.5,
        worker_url: str | None = None,
        worker_key: str | None = None,
        avatar_participant_identity: str = IDENTITY,
        avatar_participant_name: str = IDENTITY,
    ) -> None:
        """
        Args:
            url, key: of museserve; MUSESERVE_URL and MUSESERVE_KEY where they are not given. A worker has its own.
            avatar: an id of `GET /v1/avatars`.
            audio_sample_rate, patience_s: as `VideoGenerator` has them.
            worker_url, worker_key: of a worker; MUSESERVE_WORKER_URL and MUSESERVE_WORKER_KEY where they are not given.
            avatar_participant_identity, avatar_participant_name: of the worker in the room.
        """
        super().__init__()
        self._avatar, self._rate = avatar, audio_sample_rate
        worker_url = worker_url or os.getenv("MUSESERVE_WORKER_URL")
        self._worker = WorkerAPI(worker_url, worker_key or os.getenv("MUSESERVE_WORKER_KEY")) if worker_url else None
        self._identity, self._name = avatar_participant_identity, avatar_participant_name
        self.generator = None if self._worker else VideoGenerator(url, key, avatar=avatar, audio_sample_rate=audio_sample_rate, patience_s=patience_s)
        self._runner: AvatarRunner | None = None

    @property
    def avatar_identity(self) -> str:
        """The worker's, or the agent's own."""
        if self._worker is not None or self._room is None:
            return self._identity
        return self._room.local_participant.identity

    @property
    def provider(self) -> str:
        return "museserve"

    async def start(
        self,
        agent_session: AgentSession[object],
        room: rtc.Room,
        *,
        livekit_url: NotGivenOr[str] = NOT_GIVEN,
        livekit_api_key: NotGivenOr[str] = NOT_GIVEN,
        livekit_api_secret: NotGivenOr[str] = NOT_GIVEN,
    ) -> None:
        """livekit_*: with a worker; LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET where they are not given.

        Raises:
            MuseserveError: no service, or it has no such face. WorkerError: no worker, or it refuses. ValueError: a worker needs LiveKit's address
            and keys.
        """
        if self.generator is not None:
            await self.generator.start()
            await super().start(agent_session, room)
            await self._start_here(self.generator, agent_session, room)
            return
        given = (
            livekit_url or os.getenv("LIVEKIT_URL"),
            livekit_api_key or os.getenv("LIVEKIT_API_KEY"),
            livekit_api_secret or os.getenv("LIVEKIT_API_SECRET"),
        )
        if not all(given):
            raise ValueError("give livekit_url, livekit_api_key and livekit_api_secret, or set LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET")
        await super().start(agent_session, room)
        await self._start_worker(agent_session, room, *map(str, given))

    async def _start_here(self, generator: VideoGenerator, agent_session: AgentSession[object], room: rtc.Room) -> None:
        output = avatar.QueueAudioOutput(sample_rate=self._rate, wait_playback_start=True)
        self._runner = AvatarRunner(room, audio_recv=output, video_gen=generator)
        await self._runner.start()
        agent_session.output.replace_audio_tail(output)

    async def _start_worker(self, agent_session: AgentSession[object], room: rtc.Room, url: str, key: str, secret: str) -> None:
        assert self._worker is not None
        here = get_job_context().local_participant_identity
        token = (
            api.AccessToken(key, secret)
            .with_kind("agent")
            .with_identity(self._identity)
            .with_name(self._name)
            .with_grants(api.VideoGrants(room_join=True, room=room.name))
            .with_attributes({ATTRIBUTE_PUBLISH_ON_BEHALF: here})
            .to_jwt()
        )
        http = utils.http_context.http_session()
        await self._worker.launch(http, livekit_url=url, token=token, agent_identity=here, avatar=self._avatar, audio_sample_rate=self._rate)
        logger.debug("a worker joins the room", extra={"identity": self._identity})
        agent_session.output.replace_audio_tail(
            avatar.DataStreamAudioOutput(
                room,
                destination_identity=self._identity,
                sample_rate=self._rate,
                wait_remote_track=rtc.TrackKind.KIND_VIDEO,
                wait_playback_start=True,
            )
        )

    async def aclose(self) -> None:
        await super().aclose()
        if self._runner is not None:
            await self._runner.aclose()
            self._runner = None
        if self.generator is not None:
            await self.generator.aclose()

"""What an agent asks of a worker."""

from __future__ import annotations

import asyncio

import aiohttp

TIMEOUT_S = 30.0


class WorkerError(Exception):
    """The worker cannot be reached, or refuses. status: its answer, None without one."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class WorkerAPI:
    """One worker. key: where it asks for one."""

    def __init__(self, url: str, key: str | None) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def launch(
        self, http: aiohttp.ClientSession, *, livekit_url: str, token: str, agent_identity: str, avatar: str | None, audio_sample_rate: int
    ) -> None:
        """Returns when the worker has joined the room. Raises WorkerError."""
        body = {
            "livekit_url": livekit_url,
            "token": token,
            "agent_identity": agent_identity,
            "avatar": avatar,
            "audio_sample_rate": audio_sample_rate,
        }
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with http.post(f"{self._url}/launch", json=body, headers=self._headers, timeout=timeout) as answer:
                if answer.status != 200:
                    raise WorkerError(f"the worker at {self._url} answered {answer.status}: {(await answer.text())[:300]}", answer.status)
        except (aiohttp.ClientError, asyncio.TimeoutError) as error:
            raise WorkerError(f"the worker at {self._url} cannot be reached: {error or type(error).__name__}") from error

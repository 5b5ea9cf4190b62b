"""What the interview app calls: names, methods and fields are fixed. Each is one of the other calls in other words."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from configs.models import AppConfig
from deployments.ingress import bodies
from deployments.ingress.access import caller_of
from deployments.ingress.avatars import Avatars
from deployments.ingress.bodies import SpeechBody, VideoBody, exactly_one, parse
from deployments.ingress.idle_bundle import stored_idle
from deployments.ingress.speech import Speech
from deployments.ingress.uploads import read_body, read_media
from deployments.ingress.videos import Videos
from musetalk.avatars.format import Avatar


class Interview:
    def __init__(self, config: AppConfig, avatars: Avatars, videos: Videos, speech: Speech) -> None:
        self._limits, self._avatars, self._videos, self._speech = config.limits, avatars, videos, speech

    async def synthesize(self, request: Request) -> Response:
        body = parse(bodies.SynthesizeBody, (await read_body(request)).fields)
        return await self._speech.answer(SpeechBody(input=body.text, voice=body.voice, speed=body.speed))

    async def video(self, request: Request) -> Response:
        upload = await read_body(request, ["audio"])
        body, caller = parse(bodies.InterviewBody, upload.fields), caller_of(request)
        if body.status == "idle":
            return _idle(await self._avatars.open(caller, body.avatar_type))
        audio = upload.files.get("audio")
        exactly_one(text=body.text, audio_path=body.audio_path, audio=audio)
        if body.audio_path is not None:
            audio = await asyncio.to_thread(read_media, body.audio_path, self._limits, caller.tenant)
        manner = {"voice": body.voice, "speed": body.speed}
        spoken = VideoBody(text=body.text, stream=False, **manner)
        return await self._videos.answer(caller, spoken, audio, await self._avatars.meta(caller, body.avatar_type))

    async def generate(self, request: Request) -> Response:
        upload = await read_body(request, ["image", "audio"])
        parse(bodies.ImageBody, upload.fields)
        image, audio = upload.file("image"), upload.file("audio")
        caller = caller_of(request)
        async with self._avatars.temporary(caller, image) as avatar:
            return await self._videos.answer(caller, VideoBody(stream=False), audio, avatar.meta)

    async def idle_of_image(self, request: Request) -> Response:
        upload = await read_body(request, ["image"])
        parse(bodies.ImageBody, upload.fields)
        async with self._avatars.temporary(caller_of(request), upload.file("image")) as avatar:
            return _idle(avatar)


def _idle(avatar: Avatar) -> Response:
    return Response(stored_idle(avatar)["mp4"], media_type="video/mp4")

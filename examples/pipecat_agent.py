"""An interviewer in the browser, in one file: face and voice by museserve, with no key of anybody.

    pip install ./clients/python ./plugins/pipecat 'pipecat-ai[runner,webrtc]'     # in museserve's root
    make run                                                                       # museserve; in another shell:
    python examples/pipecat_agent.py                                               # then open http://localhost:7860 and connect

It asks its questions one after the other, and waits in between. With an LLM and an STT service of Pipecat's in the pipeline it listens and answers.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from pipecat.frames.frames import EndFrame, TTSSpeakFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.transports.base_transport import BaseTransport, TransportParams
from pipecat.workers.runner import WorkerRunner
from pipecat_museserve import MuseserveVideoService

QUESTIONS = ("Good morning. Tell me about yourself.", "What are you proud of?", "Thank you. That was my last question.")
ANSWER_S = 20.0
MUSESERVE_URL = os.getenv("MUSESERVE_URL", "http://127.0.0.1:8001")
# A face of 512 * 512. Its pictures go out beside their sound, so the transport must not pace them by itself: video_out_is_live stays as it is.
PARAMS = TransportParams(audio_out_enabled=True, video_out_enabled=True, video_out_width=512, video_out_height=512, audio_out_10ms_chunks=1)


async def interview(transport: BaseTransport, answer_s: float = ANSWER_S) -> None:
    voice = OpenAITTSService(
        base_url=f"{MUSESERVE_URL}/v1", api_key=os.getenv("MUSESERVE_KEY", "none"), settings=OpenAITTSService.Settings(voice="nova", model="tts-1")
    )
    face = MuseserveVideoService(url=MUSESERVE_URL)
    worker = PipelineWorker(Pipeline([voice, face, transport.output()]), cancel_on_idle_timeout=False)

    async def ask() -> None:
        for question in QUESTIONS:
            await worker.queue_frame(TTSSpeakFrame(question))
            await asyncio.sleep(answer_s)
        await worker.queue_frame(EndFrame())

    asking: list[asyncio.Task[None]] = []

    @transport.event_handler("on_client_connected")
    async def begin(transport: BaseTransport, client: Any) -> None:
        asking.append(asyncio.create_task(ask()))

    @transport.event_handler("on_client_disconnected")
    async def leave(transport: BaseTransport, client: Any) -> None:
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()
    for task in asking:
        task.cancel()


async def bot(runner_args: Any) -> None:
    """What Pipecat's runner calls for each browser that connects."""
    from pipecat.runner.utils import create_transport

    await interview(await create_transport(runner_args, {"webrtc": lambda: PARAMS}))


if __name__ == "__main__":
    from pipecat.runner.run import main

    main()

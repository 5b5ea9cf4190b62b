"""An interviewer for a LiveKit room, in one file: face and voice by museserve, with no key of anybody.

    pip install ./clients/python ./plugins/livekit     # in museserve's root
    make run                                           # museserve; in another shell:
    livekit-server --dev                               # or your own, or LiveKit's cloud, by LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET
    LIVEKIT_URL=ws://127.0.0.1:7880 LIVEKIT_API_KEY=devkey LIVEKIT_API_SECRET=secret python examples/livekit_agent.py dev

It asks its questions one after the other, and waits in between. With an `llm`, `stt` and `vad` of LiveKit's plugins in `AgentSession` it listens
and answers.
"""

from __future__ import annotations

import asyncio

from livekit.agents import Agent, AgentSession, JobContext, WorkerOptions, cli
from livekit.plugins import museserve

QUESTIONS = ("Good morning. Tell me about yourself.", "What are you proud of?", "Thank you. That was my last question.")
ANSWER_S = 20.0


async def entrypoint(ctx: JobContext, answer_s: float = ANSWER_S) -> None:
    await ctx.connect()
    session: AgentSession[None] = AgentSession(tts=museserve.TTS())
    avatar = museserve.AvatarSession()
    await avatar.start(session, room=ctx.room)
    await session.start(Agent(instructions="You are an interviewer."), room=ctx.room)
    await avatar.wait_for_join()
    for question in QUESTIONS:
        await session.say(question)
        await asyncio.sleep(answer_s)


if __name__ == "__main__":
    cli.run_app(WorkerOptions(entrypoint_fnc=entrypoint))

"""A session is told that its replica stops, and goes on in another one. Fails when a newer Ray tells its replicas' end in another way."""

from __future__ import annotations

import asyncio
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deployments.ingress.sessions.draining import until_draining
from tests.conftest import Replicated
from tests.deployments.ingress.sessions.test_sessions import LONG, contiguous
from tests.deployments.ingress.sessions.test_taken_over import Told
from tests.live import Live
from tests.redeployed_service import DRAIN_S


@pytest.mark.serve
async def test_a_session_is_told_to_move_and_closed_only_when_the_time_is_over(replicated: Replicated) -> None:
    async with Live(replicated.service.url) as one:
        await one.answer("ready")
        _, its_own = await asyncio.to_thread(replicated.holder)
        replicated.redeploy.touch()
        told = await one.answer("moving", seconds=90)
        at = time.monotonic()
        assert DRAIN_S / 2 < told["within_s"] <= DRAIN_S and told["seq"] == 0
        await one.send(type="speak", id="u", text=LONG, phase=0)
        await one.until(lambda: len(one.fragments(1)) >= 6)  # it serves on
        async with Live(its_own) as refused:
            assert await refused.closed() == 1012
            assert refused.of("error")[0]["code"] == "moving" and not refused.of("ready")
        received = Told(one).received(16)
        await asyncio.sleep(2)  # the other one is being stopped, too, and HAProxy sends nothing to either any more
        async with Live(replicated.service.url) as two:
            await two.send(type="speak", id="u", text=LONG, received=received)
            done = await two.answer("finished", "u", seconds=40)
            assert contiguous(two.fragments(1), 16) == done["frames"] and not two.of("moving")
        assert await one.closed(2 * DRAIN_S) == 1012
        assert DRAIN_S / 2 < time.monotonic() - at < 2 * DRAIN_S


async def test_only_the_words_of_a_stopping_replica_count() -> None:
    answers = [(200, "success"), (503, "UNHEALTHY"), (500, "DRAINING"), None, (503, "DRAINING")]
    asked: list[str] = []

    class Replica(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers[len(asked)]
            asked.append(self.path)
            if answer is None:
                return  # hangs up without a word
            self.send_response(answer[0])
            self.end_headers()
            self.wfile.write(answer[1].encode())

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Replica)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        await asyncio.wait_for(until_draining("127.0.0.1", server.server_address[1]), 10)
    finally:
        server.shutdown()
        server.server_close()
    assert asked == ["/-/healthz"] * len(answers)

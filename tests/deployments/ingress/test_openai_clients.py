"""What OpenAI's clients and browsers send and ask for, in the ingress alone."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from configs.models import AppConfig
from deployments.ingress.answers import HANDLERS, whole
from deployments.ingress.bodies import SpeechBody, VideoBody, parse
from deployments.ingress.speech import MODELS, Speech, list_models, list_speech_models, read_model
from deployments.ingress.uploads import read_body
from museserve.errors import EngineError, RequestError
from museserve.messages import SpeechRequest

DATA = bytes(range(200))


BREAKS_OFF = "Speech that is lost."


class Graph:
    """Keeps what it is asked for, and answers with three pieces."""

    asked: SpeechRequest

    async def speak(self, speech: SpeechRequest, audio_format: str, whole: bool) -> AsyncGenerator[bytes, None]:
        self.asked = speech
        for piece in (b"one", b"two", b"three"):
            await asyncio.sleep(0)
            yield piece
        if speech.text == BREAKS_OFF:
            raise EngineError("the speech broke off: what made it was lost; ask again")


async def ranged(request: Request) -> Response:
    return whole(request, DATA, "video/mp4", {"ETag": '"v1"'})


async def fields(request: Request) -> Response:
    upload = await read_body(request, ["audio"])
    return JSONResponse({"fields": upload.fields, "files": sorted(upload.files)})


@pytest.fixture
def graph() -> Graph:
    return Graph()


@pytest.fixture
def client(graph: Graph) -> TestClient:
    any_graph: Any = graph
    speech = Speech(AppConfig(), any_graph)
    routes = [
        Route("/v1/audio/speech", speech.create, methods=["POST"]),
        Route("/v1/audio/models", list_speech_models),
        Route("/v1/audio/voices", speech.list_openai_voices),
        Route("/v1/models", list_models),
        Route("/v1/models/{id}", read_model),
        Route("/ranged", ranged),
        Route("/fields", fields, methods=["POST"]),
    ]
    return TestClient(Starlette(routes=routes, exception_handlers=HANDLERS))


def test_null_is_absent() -> None:
    assert parse(SpeechBody, {"input": "Hi.", "response_format": None, "speed": None}) == SpeechBody(input="Hi.")
    with pytest.raises(RequestError, match="input: Field required"):
        parse(SpeechBody, {"input": None})


def test_a_voice_may_be_an_object() -> None:
    assert parse(SpeechBody, {"input": "Hi.", "voice": {"id": "alloy"}}).voice == "alloy"
    assert parse(VideoBody, {"text": "Hi.", "voice": {"id": "nova"}}).voice == "nova"
    with pytest.raises(RequestError, match="voice"):
        parse(SpeechBody, {"input": "Hi.", "voice": {"name": "alloy"}})


def test_fields_that_a_form_left_empty_are_absent(client: TestClient) -> None:
    boundary = "x" * 12
    empty_file = f'--{boundary}\r\nContent-Disposition: form-data; name="audio"; filename=""\r\nContent-Type: application/octet-stream\r\n\r\n\r\n'
    text = f'--{boundary}\r\nContent-Disposition: form-data; name="text"\r\n\r\nHello.\r\n--{boundary}--\r\n'
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    assert client.post("/fields", content=empty_file + text, headers=headers).json() == {"fields": {"text": "Hello."}, "files": []}
    sent = client.post("/fields", data={"text": ""}, files={"audio": ("a.wav", b"RIFF")})
    assert sent.json() == {"fields": {}, "files": ["audio"]}
    sent = client.post("/fields", files={"audio": ("a.wav", b"")})
    assert sent.json()["files"] == ["audio"], "a file that is empty is an error of its own"


@pytest.mark.parametrize("named", ["", '; filename=""', "; filename*=UTF-8''%EB%A9%B4%EC%A0%91.wav", '; filename="\u00ff.wav"'])
def test_a_file_is_one_whatever_it_is_called(client: TestClient, named: str) -> None:
    """Node's FormData gives a buffer no name, and others `filename*` alone. It may be larger than a text."""
    head = f'--xx\r\nContent-Disposition: form-data; name="text"\r\n\r\nHi.\r\n--xx\r\nContent-Disposition: form-data; name="audio"{named}\r\n\r\n'
    body = head.encode() + b"RIFF\xff\0" * 400_000 + b"\r\n--xx--\r\n"
    sent = client.post("/fields", content=body, headers={"Content-Type": 'multipart/form-data; boundary="xx"'})
    assert sent.json() == {"fields": {"text": "Hi."}, "files": ["audio"]}


def test_a_form_that_is_cut_or_not_one_is_refused(client: TestClient) -> None:
    for body in (b"--xx\r\nContent-Disposition: form-data\r\n\r\nHi.\r\n--xx--\r\n", b"nothing of the kind"):
        sent = client.post("/fields", content=body, headers={"Content-Type": "multipart/form-data; boundary=xx"})
        assert sent.status_code == 400 and sent.json()["error"]["code"] == "bad_request"


def test_json_that_is_called_a_form(client: TestClient) -> None:
    """curl -d without a header."""
    sent = client.post("/fields", content=b'{"text": "Hi."}', headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert sent.status_code == 400 and "Content-Type: application/json" in sent.json()["error"]["message"]


def test_models_and_voices(client: TestClient) -> None:
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list" and [model["id"] for model in listed["data"]] == list(MODELS)
    assert client.get("/v1/models/tts-1").json()["object"] == "model"
    assert client.get("/v1/models/none").status_code == 404
    assert {"id": "tts-1", "name": "tts-1"} in client.get("/v1/audio/models").json()["models"]
    assert {"id": "nova", "name": "nova"} in client.get("/v1/audio/voices").json()["voices"]


def test_speech_as_events(client: TestClient, graph: Graph) -> None:
    answer = client.post("/v1/audio/speech", json={"input": "Hi.", "stream_format": "sse", "instructions": "Be kind."})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.strip().split("\n\n")]
    assert [event["type"] for event in events] == ["speech.audio.delta"] * 3 + ["speech.audio.done"]
    assert b"".join(base64.b64decode(event["audio"]) for event in events[:-1]) == b"onetwothree"
    assert graph.asked.instructions == "Be kind." and graph.asked.text == "Hi."


def test_speech_that_breaks_off_ends_its_events_with_the_reason(client: TestClient) -> None:
    answer = client.post("/v1/audio/speech", json={"input": BREAKS_OFF, "stream_format": "sse"})
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.strip().split("\n\n")]
    assert [event["type"] for event in events] == ["speech.audio.delta"] * 3 + ["error"]
    assert events[-1]["error"] == {"code": "engine_failed", "message": "the speech broke off: what made it was lost; ask again"}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"Range": "bytes=0-1"}, (206, DATA[:2], "bytes 0-1/200")),
        ({"Range": "Bytes=0-1"}, (206, DATA[:2], "bytes 0-1/200")),
        ({"Range": "bytes=150-"}, (206, DATA[150:], "bytes 150-199/200")),
        ({"Range": "bytes=-10"}, (206, DATA[190:], "bytes 190-199/200")),
        ({"Range": "bytes=190-900"}, (206, DATA[190:], "bytes 190-199/200")),
        ({"Range": "bytes=0-1", "If-Range": '"v1"'}, (206, DATA[:2], "bytes 0-1/200")),
        ({"Range": "bytes=0-1", "If-Range": '"v0"'}, (200, DATA, None)),
        ({"Range": "bytes=0-1,5-6"}, (200, DATA, None)),
        ({"Range": "bytes=9-3"}, (200, DATA, None)),
        ({"Range": "lines=0-1"}, (200, DATA, None)),
        ({}, (200, DATA, None)),
    ],
)
def test_ranges(client: TestClient, asked: dict[str, str], expected: tuple[int, bytes, str | None]) -> None:
    answer = client.get("/ranged", headers=asked)
    assert (answer.status_code, answer.content, answer.headers.get("content-range")) == expected
    assert answer.headers["accept-ranges"] == "bytes"


def test_a_range_behind_the_end(client: TestClient) -> None:
    answer = client.get("/ranged", headers={"Range": "bytes=200-"})
    assert answer.status_code == 416 and answer.headers["content-range"] == "bytes */200"
    assert answer.json()["error"]["code"] == "bad_request"

"""Recordings that are passed on to a server of OpenAI's contract, and what is told when it does not answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from configs.models import AppConfig
from deployments.ingress.ingress import Ingress

WEBM = b"\x1aE\xdf\xa3" + bytes(500)


class Server(ThreadingHTTPServer):
    """Writes down whatever it is sent as `answers` says, and keeps what it was sent."""

    answers: tuple[int, str, bytes] = (200, "application/json", b'{"text": " I led the team. "}')

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[dict[str, Any]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        form = message_from_bytes(b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n" + body)
        parts = {str(part.get_param("name", header="content-disposition")): part for part in form.walk() if not part.is_multipart()}
        self.server.got.append(
            {
                "path": self.path,
                "key": self.headers["Authorization"],
                "name": parts["file"].get_filename(),
                **{name: part.get_payload(decode=True) for name, part in parts.items()},
            }
        )
        status, kind, answer = self.server.answers
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


class Handle:
    def options(self, **options: Any) -> Handle:
        return self


def client(tmp_path: Path, **transcription: Any) -> TestClient:
    handle: Any = Handle()
    settings = {"avatars": {"uri": str(tmp_path)}, "cache": {"enabled": False}, "transcription": transcription}
    app = Ingress(AppConfig.model_validate(settings), handle, handle).__serve_build_asgi_app__()
    return TestClient(app, "http://127.0.0.1:8001", raise_server_exceptions=False)


def test_a_recording_goes_to_the_chosen_server_and_its_text_comes_back(server: Server, tmp_path: Path) -> None:
    asked = client(tmp_path, base_url=server.url, model="small", api_key="sk-mine")
    answer = asked.post("/v1/audio/transcriptions", files={"file": ("blob", WEBM)}, data={"language": "ko", "model": "whisper-1"})
    assert answer.status_code == 200 and answer.json() == {"text": "I led the team."}
    (got,) = server.got
    assert got["path"] == "/v1/audio/transcriptions" and got["key"] == "Bearer sk-mine" and got["name"] == "recording.webm"
    assert (got["file"], got["model"], got["language"]) == (WEBM, b"small", b"ko")


def test_without_a_server_nothing_is_written_down(server: Server, tmp_path: Path) -> None:
    answer = client(tmp_path).post("/v1/audio/transcriptions", files={"file": WEBM})
    assert answer.status_code == 404 and answer.json()["error"]["code"] == "no_transcription" and "transcription.base_url" in answer.text
    assert server.got == []


@pytest.mark.parametrize(
    ("status", "kind", "body", "told"),
    [
        (401, "application/json", b'{"error": {"message": "wrong key sk-mine"}}', "OPENAI_API_KEY"),
        (404, "text/html", b"<h1>no</h1>", "transcription.base_url"),
        (400, "application/json", b'{"error": {"message": "what was said"}}', "did not take the recording"),
        (200, "text/html", b"<h1>hello</h1>", "no transcript"),
        (200, "application/json", b'{"words": []}', "no transcript"),
    ],
)
def test_a_server_that_fails_is_told_without_its_own_words(server: Server, tmp_path: Path, status: int, kind: str, body: bytes, told: str) -> None:
    server.answers = (status, kind, body)
    answer = client(tmp_path, base_url=server.url, api_key="sk-mine", max_retries=0).post("/v1/audio/transcriptions", files={"file": WEBM})
    assert answer.status_code == 502 and answer.json()["error"]["code"] == "transcription_failed"
    assert told in answer.text and "sk-mine" not in answer.text and "what was said" not in answer.text


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    asked = client(tmp_path, base_url="http://127.0.0.1:9/v1", max_retries=0)
    answer = asked.post("/v1/audio/transcriptions", files={"file": WEBM})
    assert answer.status_code == 502 and "cannot be reached" in answer.text


def test_bad_requests_are_refused_before_anything_is_sent(server: Server, tmp_path: Path) -> None:
    asked = client(tmp_path, base_url=server.url)
    assert asked.post("/v1/audio/transcriptions", files={"other": WEBM}).status_code == 400
    assert asked.post("/v1/audio/transcriptions", json={"language": "en"}).status_code == 400
    assert asked.post("/v1/audio/transcriptions", files={"file": WEBM}, data={"language": "Klingon, please"}).status_code == 400
    assert server.got == []

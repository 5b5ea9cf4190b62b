"""Each wrong request gets its own 4xx that says what was seen and what is accepted, and leaves nothing behind."""

from __future__ import annotations

import io
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.conftest import Service
from tests.museserve.media.films import film, marked
from tests.sounds import encoded

DATA = Path(__file__).parents[1] / "data"

pytestmark = pytest.mark.serve

RNG = np.random.default_rng(1)


def refused(answer: httpx.Response, status: int, code: str, *says: str) -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code
    for part in says:
        assert part in error["message"], error["message"]


def tone(seconds: float, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(np.arange(round(seconds * 24_000)) * 0.06)).astype(np.float32)


@pytest.mark.parametrize(
    ("body", "status", "code", "says"),
    [
        ({"text": ""}, 400, "bad_text", ()),
        ({"text": "   \n "}, 400, "bad_text", ()),
        ({"text": "🙂🎉 … !!"}, 400, "bad_text", ()),
        ({"text": "a " * 5_000}, 400, "bad_text", ("4,096", "9,999")),
        ({"text": "Hi", "voice": "darth"}, 400, "unknown_voice", ("darth", "nova")),
        ({"text": "Hi", "avatar": "nobody"}, 404, "unknown_avatar", ("nobody",)),
        ({"text": "Hi", "avatar": "../../etc/passwd"}, 404, "unknown_avatar", ()),
        ({"text": "Hi", "language": "tlh-x"}, 400, "unknown_language", ("tlh-x",)),
        ({"text": "Hi", "speed": 9}, 400, "bad_request", ("speed", "less than or equal to 4")),
        ({"text": "Hi", "sped": 1}, 400, "bad_request", ("sped", "Accepted fields")),
        ({"text": 5}, 400, "bad_request", ("text",)),
        ({}, 400, "bad_request", ("exactly one of text, audio", "none")),
        ({"text": "Hi", "captions": "burned"}, 400, "bad_request", ("captions", "link", "track")),
        ({"text": "Hi", "captions": "track"}, 400, "bad_request", ("stream", "false", "link")),
    ],
)
def test_wrong_fields(client: httpx.Client, body: dict, status: int, code: str, says: tuple[str, ...]) -> None:
    refused(client.post("/v1/videos", json=body), status, code, *says)


def test_text_and_audio_both(client: httpx.Client) -> None:
    answer = client.post("/v1/videos", data={"text": "Hi"}, files={"audio": encoded(tone(1), "wav")})
    refused(answer, 400, "bad_request", "text and audio")


def test_a_text_track_of_recorded_speech(client: httpx.Client) -> None:
    answer = client.post("/v1/videos", data={"captions": "track", "stream": "false"}, files={"audio": encoded(tone(1), "wav")})
    refused(answer, 400, "bad_request", "text", "link")


@pytest.mark.parametrize("text", ["안녕하세요 👋 Hello, مرحبا, こんにちは 𝕳", "Zero\u200bwidth and \x07bell", "C++ & <b>O(n)</b>"])
def test_mixed_scripts_are_spoken(client: httpx.Client, text: str) -> None:
    assert client.post("/v1/videos", json={"text": text, "stream": False}).status_code == 200


@pytest.mark.parametrize(
    ("audio", "says"),
    [
        (b"", ()),
        (b"RIFF" + bytes(RNG.integers(0, 255, 4_000, np.uint8)), ()),
        (bytes(RNG.integers(0, 255, 50_000, np.uint8)), ()),
        (encoded(tone(2, 0.0), "wav"), ("silent",)),
        (encoded(tone(0.1), "wav"), ("0.1", "0.2")),
        (encoded(tone(120), "mp3"), ("60",)),
        (encoded(tone(3), "mp3")[:300], ()),
    ],
    ids=["empty", "corrupt wav", "noise", "silent", "too short", "too long", "truncated"],
)
def test_wrong_audio(client: httpx.Client, audio: bytes, says: tuple[str, ...]) -> None:
    refused(client.post("/v1/videos", files={"audio": ("a.wav", audio)}), 400, "bad_audio", *says)


def test_wrong_images(client: httpx.Client) -> None:
    rows = np.zeros((600, 600, 3), np.uint8)
    for image, says in ((png(rows), "face"), (b"%PDF-1.7 ...", "PDF"), (b"", ""), (png(rows)[:200], ""), (huge_png(), "pixel")):
        refused(client.post("/v1/avatars", files={"image": ("me.png", image)}, data={"name": "X"}), 400, "bad_image", says)
    assert [a["id"] for a in client.get("/v1/avatars").json()["data"]] == ["interviewer_man", "interviewer_woman"]


def test_two_faces_are_counted(client: httpx.Client) -> None:
    import cv2

    faces = [
        np.asarray(cv2.imdecode(np.frombuffer(client.get(f"/v1/avatars/{a}/portrait").content, np.uint8), cv2.IMREAD_COLOR), np.uint8)
        for a in ("interviewer_woman", "interviewer_man")
    ]
    refused(client.post("/v1/avatars", files={"image": png(np.hstack(faces))}, data={"name": "X"}), 400, "bad_image", "2")


def test_clips_where_musetalk_does_not_run(client: httpx.Client) -> None:
    clip = {"video": ("me.mp4", film(map(marked, range(30))))}
    refused(client.post("/v1/avatars", files=clip, data={"name": "X"}), 503, "engine_unavailable", "needs MuseTalk", "model files are missing")
    asked = client.post("/v1/avatars", files=clip, data={"name": "X"}, headers={"Accept": "application/x-ndjson"})
    refused(asked, 503, "engine_unavailable", "needs MuseTalk")
    refused(client.post("/v1/avatars", files={"image": b"x", **clip}), 400, "bad_request", "exactly one of image, video", "image and video")
    refused(client.post("/v1/avatars", data={"name": "X"}), 400, "bad_request", "exactly one of image, video")
    refused(client.post("/v1/avatars", files={"image": bytes(5 * 2**20)}), 413, "payload_too_large", "5,242,880", "4,194,304")
    assert [a["id"] for a in client.get("/v1/avatars").json()["data"]] == ["interviewer_man", "interviewer_woman"]


def test_who_hangs_up_on_a_preparation_leaves_nothing(client: httpx.Client, service: Service) -> None:
    portrait = client.get("/v1/avatars/interviewer_woman/portrait").content
    asked: dict[str, Any] = {"files": {"image": ("me.png", portrait)}, "data": {"id": "gone"}, "headers": {"Accept": "application/x-ndjson"}}
    with client.stream("POST", "/v1/avatars", **asked) as answer:
        next(answer.iter_lines())
    time.sleep(4)
    assert client.get("/v1/avatars/gone").status_code == 404
    assert not [path for path in service.home.rglob("*") if "gone" in str(path) and path.is_file()]


def test_missing_and_unknown_files(client: httpx.Client) -> None:
    refused(client.post("/v1/avatars", data={"name": "X"}, files={"picture": b"x"}), 400, "bad_request", "picture", "image")
    refused(client.post("/generate", files={"image": b"x"}), 400, "bad_request", "audio")
    refused(client.post("/v1/avatars", data={"id": "Bad Id!"}, files={"image": b"x"}), 400, "bad_request", "id")


@pytest.mark.parametrize("path", ["../secret.wav", "/etc/passwd", "link.wav", "folder", "missing.wav", "a\0b.wav", "~/x.wav", "x" * 5_000])
def test_audio_path_stays_inside_the_media_root(client: httpx.Client, service: Service, path: str) -> None:
    secret = service.media_root.parent / "secret.wav"
    secret.write_bytes(encoded(tone(1), "wav"))
    link = service.media_root / "link.wav"
    if not link.is_symlink():
        link.symlink_to(secret)
    (service.media_root / "folder").mkdir(exist_ok=True)
    answer = client.post("/api/core/interview/video/generate/", json={"audio_path": path, "avatar_type": "man"})
    refused(answer, 400, "bad_audio_path", "media root")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/videos", 405, "method_not_allowed"),
        ("PUT", "/v1/avatars", 405, "method_not_allowed"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("DELETE", "/v1/avatars/nobody", 404, "unknown_avatar"),
        ("GET", "/v1/avatars/..%2f..%2fetc/portrait", 404, "not_found"),
    ],
)
def test_wrong_method_or_path(client: httpx.Client, method: str, path: str, status: int, code: str) -> None:
    refused(client.request(method, path), status, code)


def test_wrong_content_type_and_json(client: httpx.Client) -> None:
    refused(
        client.post("/v1/videos", content=b"<x/>", headers={"content-type": "text/xml"}),
        415,
        "unsupported_media_type",
        "text/xml",
        "application/json",
    )
    for body in (b"{", b"[1]", b"\xff\xfe", b'{"text": ' + b"[" * 100_000):
        refused(client.post("/v1/videos", content=body, headers={"content-type": "application/json"}), 400, "bad_request")
    refused(client.post("/v1/videos", content=b"--x", headers={"content-type": "multipart/form-data"}), 400, "bad_request")


def test_bodies_over_the_limit(client: httpx.Client) -> None:
    big = bytes(5 * 2**20)
    refused(client.post("/v1/videos", files={"audio": big}), 413, "payload_too_large", "4,194,304")

    def chunks():  # no Content-Length
        for _ in range(80):
            yield bytes(65_536)

    refused(client.post("/v1/videos", content=chunks(), headers={"content-type": "application/json"}), 413, "payload_too_large")


def test_a_client_that_hangs_up_leaves_nothing(client: httpx.Client, service: Service) -> None:
    files = sorted(p for p in service.home.rglob("*") if p.is_file())
    for _ in range(5):
        with client.stream("POST", "/v1/videos", json={"text": "This sentence is long enough to be cut off in the middle of it. " * 5}) as answer:
            next(answer.iter_raw())
    address = (httpx.URL(service.url).host, httpx.URL(service.url).port)
    for _ in range(5):  # half a request
        with socket.create_connection(address) as half:
            half.sendall(b"POST /v1/videos HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
    deadline = time.monotonic() + 10
    while service.health()["live_utterances"] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert service.health()["live_utterances"] == 0
    assert sorted(p for p in service.home.rglob("*") if p.is_file()) == files
    assert client.post("/v1/videos", json={"text": "Still here.", "stream": False}).status_code == 200


def png(pixels: np.ndarray) -> bytes:
    import cv2

    return bytes(cv2.imencode(".png", pixels)[1])


@pytest.mark.parametrize(("name", "status"), [("man", 409), ("interviewer_man", 409), ("tmp-mine", 400)])
def test_an_avatar_cannot_take_a_name_that_means_another_or_is_the_services_own(client, name: str, status: int) -> None:
    picture = {"image": ("a.jpg", (DATA / "astronaut.jpg").read_bytes(), "image/jpeg")}
    answer = client.post("/v1/avatars", files=picture, data={"id": name})
    assert answer.status_code == status and answer.json()["error"]["message"]


def huge_png() -> bytes:
    """A header that declares 50 megapixels and nothing behind it."""
    import struct
    import zlib

    header = struct.pack(">IIBBBBB", 10_000, 5_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    out = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    out.seek(0, 2)
    out.write(struct.pack(">I", len(header)) + chunk + struct.pack(">I", zlib.crc32(chunk)))
    return out.getvalue() + Path(__file__).read_bytes()[:100]

"""Every call of the API, over real HTTP, against the real graph."""

from __future__ import annotations

import io
import json
import time
import wave
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
import soundfile
from openai import OpenAI

from museserve.media.fragments import STREAM_END
from museserve.timebase import FPS, SEGMENT_FRAMES
from tests import decoded
from tests.conftest import Service
from tests.sounds import encoded

pytestmark = pytest.mark.serve

QUESTION = "Tell me about a project you are proud of."
QUESTION_KO = "가장 자랑스러운 프로젝트를 소개해 주세요."


def test_health_says_what_runs_and_why(service: Service) -> None:
    health = service.health()
    assert health["status"] == "ok"
    assert health["engine"]["name"] == "animator"
    reason = health["engine"]["reason"]
    assert reason.startswith("auto: ") and "model files are missing" in reason and "museserve weights download" in reason
    assert health["speech"]["engine"] == "offline" and health["speech"]["reason"]
    assert {"museserve", "ray", "av"} <= health["versions"].keys()
    assert "nova" in health["voices"]


@pytest.mark.parametrize(("text", "avatar"), [(QUESTION, "interviewer_woman"), (QUESTION_KO, "interviewer_man")])
def test_text_becomes_a_stream_that_plays(client: httpx.Client, text: str, avatar: str) -> None:
    arrivals, data = [], b""
    began = time.perf_counter()
    with client.stream("POST", "/v1/videos", json={"text": text, "avatar": avatar}) as answer:
        assert answer.status_code == 200, answer.read()
        headers = answer.headers
        for piece in answer.iter_raw():
            arrivals.append(time.perf_counter() - began)
            data += piece
    assert headers["content-type"].startswith("video/mp4; codecs=") and headers["x-codecs"].startswith("avc1.")
    assert "first_fragment;dur=" in headers["server-timing"]
    assert headers["x-engine"].startswith("animator; auto: ") and "model files are missing" in headers["x-engine"]
    assert data.endswith(STREAM_END) and data.count(STREAM_END) == 1
    frames, sound = decoded.frames(data), decoded.sound(data)
    assert decoded.numbers(frames) == list(range(len(frames)))
    assert len(frames) % SEGMENT_FRAMES == 0 and len(sound) == pytest.approx(len(frames) * 1920, abs=2048)
    # Fragments arrive before the end: the last bytes come long after the first, because the stream is paced.
    assert arrivals[-1] - arrivals[0] > len(frames) / FPS - 2.5 and len(arrivals) > 4
    assert np.abs(sound).max() > 0.05


def test_a_finished_file_on_request(client: httpx.Client) -> None:
    answer = client.post("/v1/videos", json={"text": QUESTION, "stream": False})
    assert answer.status_code == 200
    assert answer.content.index(b"moov") < answer.content.index(b"mdat")
    assert len(decoded.frames(answer.content)) > 2 * FPS


def test_uploaded_speech_moves_the_lips(client: httpx.Client) -> None:
    speech = client.post("/v1/audio/speech", json={"input": QUESTION, "voice": "nova", "response_format": "mp3"}).content
    answer = client.post("/v1/videos", files={"audio": ("q.mp3", speech)}, data={"avatar": "interviewer_man", "stream": "false"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-speech-engine"] == "upload"
    frames, sound = decoded.frames(answer.content), decoded.sound(answer.content)
    pictures = np.stack([f.to_ndarray(format="gray")[240:420, 150:360] for f in frames]).astype(np.int16)
    assert np.abs(np.diff(pictures, axis=0)).mean() > 0.3 and np.abs(sound).max() > 0.05


def test_captions_follow_the_video(client: httpx.Client) -> None:
    answer = client.post("/v1/videos", json={"text": QUESTION, "stream": False})
    captions = client.get(f"/v1/videos/{answer.headers['x-utterance-id']}/captions.vtt")
    assert captions.headers["content-type"].startswith("text/vtt") and captions.text.startswith("WEBVTT")
    assert "proud" in captions.text
    assert client.get("/v1/videos/none/captions.vtt").status_code == 404


def test_captions_as_a_track_in_the_file(client: httpx.Client) -> None:
    answer = client.post("/v1/videos", json={"text": QUESTION, "stream": False, "captions": "track"})
    assert answer.status_code == 200 and "captions.vtt" in answer.headers["link"]
    with av.open(io.BytesIO(answer.content), "r") as container:
        (track,) = container.streams.subtitles
        said = " ".join(bytes(packet)[2:].decode() for packet in container.demux(track) if packet.size > 2)
    assert track.language == "eng" and " ".join(said.split()) == QUESTION


def test_captions_nobody_wants_are_not_kept(client: httpx.Client) -> None:
    answer = client.post("/v1/videos", json={"text": "Yes.", "stream": False, "captions": "none"})
    assert answer.status_code == 200 and "link" not in answer.headers
    assert client.get(f"/v1/videos/{answer.headers['x-utterance-id']}/captions.vtt").status_code == 404


def test_captions_are_ready_while_the_stream_plays(client: httpx.Client) -> None:
    with client.stream("POST", "/v1/videos", json={"text": f"{QUESTION} {QUESTION}"}) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        captions = httpx.get(f"{client.base_url}/v1/videos/{answer.headers['x-utterance-id']}/captions.vtt", timeout=10)
        assert captions.text.count("proud") == 2


def test_voices_and_openapi(client: httpx.Client) -> None:
    voices = {v["id"]: v for v in client.get("/v1/voices").json()["data"]}
    assert voices["nova"]["gender"] == "female" and voices["onyx"]["gender"] == "male"
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1") and "/v1/videos" in document["paths"]


def test_the_openapi_document_is_valid(client: httpx.Client) -> None:
    from openapi_spec_validator import validate

    validate(client.get("/openapi.json").json())


@pytest.mark.parametrize("audio_format", ["mp3", "opus", "aac", "flac", "wav", "pcm"])
def test_the_openai_client_speaks_to_it(service: Service, audio_format: Any) -> None:
    openai = OpenAI(base_url=f"{service.url}/v1", api_key="none")
    with openai.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice="nova", input=QUESTION, response_format=audio_format, speed=1.1
    ) as answer:
        data = b"".join(answer.iter_bytes())
    if audio_format == "pcm":
        pcm = np.frombuffer(data, np.int16) / 32768
        rate = 24_000
    else:
        with av.open(io.BytesIO(data), "r") as container:
            parts = [f.to_ndarray().reshape(-1) for f in container.decode(audio=0)]
            rate = container.streams.audio[0].rate
        pcm = np.concatenate(parts).astype(np.float64)
        pcm /= 32768 if np.abs(pcm).max() > 2 else 1
    assert 1.5 < len(pcm) / rate < 5 and np.abs(pcm).max() > 0.05


@pytest.mark.parametrize("audio_format", ["wav", "flac"])
def test_speech_that_is_whole_has_its_length_in_front(service: Service, audio_format: Any, tmp_path: Path) -> None:
    openai = OpenAI(base_url=f"{service.url}/v1", api_key="none")
    openai.audio.speech.create(model="tts-1", voice="nova", input=QUESTION, response_format=audio_format).write_to_file(tmp_path / "said")
    read, rate = soundfile.read(tmp_path / "said")
    assert soundfile.info(tmp_path / "said").frames == len(read) and 1.5 < len(read) / rate < 5
    if audio_format == "wav":
        with wave.open(str(tmp_path / "said")) as file:
            assert file.getnframes() == len(read)


def test_the_interview_apps_calls(client: httpx.Client, service: Service) -> None:
    spoken = client.post("/api/core/tts/synthesize/", json={"text": QUESTION, "voice": "nova", "speed": 1.1})
    assert spoken.status_code == 200 and spoken.headers["content-type"] == "audio/mpeg"
    (service.media_root / "questions").mkdir()
    (service.media_root / "questions/q.mp3").write_bytes(spoken.content)
    asked = {"audio_path": "questions/q.mp3", "avatar_type": "man", "session_id": "s1", "status": "speaking"}
    as_json = client.post("/api/core/interview/video/generate/", json=asked)
    as_form = client.post("/api/core/interview/video/generate/", data={"avatar_type": "woman", "status": "speaking"}, files={"audio": spoken.content})
    idle = client.post("/api/core/interview/video/generate/", json={"avatar_type": "woman", "status": "idle"})
    for answer in (as_json, as_form, idle):
        assert answer.status_code == 200 and answer.headers["content-type"] == "video/mp4", answer.text
        assert len(decoded.frames(answer.content)) >= 2 * FPS


def test_generate_and_idle_of_an_image(client: httpx.Client) -> None:
    portrait = client.get("/v1/avatars/interviewer_man/portrait").content
    spoken = client.post("/v1/audio/speech", json={"input": "Hello there.", "response_format": "wav"}).content
    before = client.get("/v1/avatars").json()
    video = client.post("/generate", files={"image": portrait, "audio": spoken})
    idle = client.post("/idle", files={"image": portrait})
    assert video.status_code == idle.status_code == 200, video.text
    assert len(decoded.frames(video.content)) > FPS // 2
    frames = decoded.frames(idle.content)
    first, last = (f.to_ndarray(format="gray").astype(np.int16) for f in (frames[0], frames[-1]))
    step = np.abs(frames[1].to_ndarray(format="gray").astype(np.int16) - first).mean()
    assert np.abs(last - first).mean() < step + 1.0  # the loop closes without a jump
    assert client.get("/v1/avatars").json() == before  # nothing is kept


def test_preparation_tells_how_far_it_is(client: httpx.Client) -> None:
    portrait = client.get("/v1/avatars/interviewer_woman/portrait").content
    asked: dict[str, Any] = {"files": {"image": ("me.png", portrait)}, "data": {"id": "yuna"}, "headers": {"Accept": "application/x-ndjson"}}
    with client.stream("POST", "/v1/avatars", **asked) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"] == "application/x-ndjson"
        *steps, last = [json.loads(line) for line in answer.iter_lines()]
    assert last["avatar"]["id"] == "yuna" and last["avatar"]["report"]["faces"] == 1
    assert [step["step"] for step in steps][:2] == ["read", "find the face"] and [s["done"] for s in steps] == sorted(s["done"] for s in steps)
    assert client.delete("/v1/avatars/yuna").status_code == 204
    asked["files"] = {"image": ("me.png", portrait[:5_000])}
    with client.stream("POST", "/v1/avatars", **asked) as answer:
        last = json.loads(list(answer.iter_lines())[-1])
    assert last["error"]["code"] == "bad_image" and last["error"]["status"] == 400 and "damaged" in last["error"]["message"]


def test_an_avatar_lives_from_portrait_to_deletion(client: httpx.Client) -> None:
    portrait = client.get("/v1/avatars/interviewer_woman/portrait").content
    made = client.post("/v1/avatars", files={"image": ("me.png", portrait)}, data={"id": "hana", "name": "Hana", "gender": "female"})
    assert made.status_code == 201, made.text
    assert made.headers["location"] == "/v1/avatars/hana" and made.json()["report"]
    assert client.post("/v1/avatars", files={"image": portrait}, data={"id": "hana"}).status_code == 409
    assert "hana" in [a["id"] for a in client.get("/v1/avatars").json()["data"]]
    assert client.get("/v1/avatars/hana").json()["name"] == "Hana"
    assert client.get("/v1/avatars/hana/idle").headers["content-type"] == "video/mp4"
    spoken = client.post("/v1/videos", json={"text": "Hello.", "avatar": "hana", "stream": False})
    assert spoken.status_code == 200
    assert client.delete("/v1/avatars/hana").status_code == 204
    assert client.get("/v1/avatars/hana").status_code == 404
    assert client.delete("/v1/avatars/interviewer_woman").status_code == 409


def test_the_page_is_served_with_local_references_only(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.status_code == 200 and "text/html" in page.headers["content-type"]
    assert 'src="http' not in page.text and 'href="http' not in page.text


def test_stages_are_counted_for_prometheus(service: Service, client: httpx.Client) -> None:
    from tests.metrics import scrape

    client.post("/v1/videos", json={"text": QUESTION, "stream": False})
    wanted = {
        "ray_museserve_first_fragment_seconds_count",
        "ray_museserve_segment_wait_ms_count",
        "ray_museserve_batch_frames_count",
        "ray_museserve_render_frame_ms_count",
        "ray_museserve_encode_frame_ms_count",
        "ray_museserve_live_utterances",
        "ray_museserve_utterances_total",
    }
    deadline = time.monotonic() + 40
    while not wanted <= (seen := scrape(service)) and time.monotonic() < deadline:
        time.sleep(1)
    assert wanted <= seen, wanted - seen


def test_the_loaded_speech_round_trips_through_every_upload_format(client: httpx.Client) -> None:
    speech = client.post("/v1/audio/speech", json={"input": "Hello there.", "response_format": "pcm"}).content
    pcm = np.frombuffer(speech, np.int16).astype(np.float32) / np.float32(32768)
    for kind in ("mp3", "wav", "m4a", "ogg", "webm"):
        answer = client.post("/v1/videos", files={"audio": encoded(pcm, kind)}, data={"stream": "false"})
        assert answer.status_code == 200, (kind, answer.text)


def test_errors_are_json(client: httpx.Client) -> None:
    answer = client.post("/v1/videos", json={"text": ""})
    assert answer.status_code == 400
    assert json.loads(answer.text)["error"].keys() == {"code", "message"}

"""The service with the natural voices' files in its weights folder: Korean is spoken by them, and whoever asks is told so."""

from __future__ import annotations

import io

import httpx
import numpy as np
import pytest
import soundfile

from museserve.speech.engines.loudness import TARGET_LUFS, measure
from museserve.speech.engines.resample import resample
from tests.conftest import CONFIG, start, stop
from tests.museserve.speech.engines import supertonic_files as files

pytestmark = pytest.mark.serve

KOREAN = "안녕하세요, 만나서 반갑습니다. 먼저 간단하게 자기소개를 부탁드립니다."


def test_korean_is_spoken_by_the_natural_voices(tmp_path_factory: pytest.TempPathFactory) -> None:
    tmp = tmp_path_factory.mktemp("natural")
    files.write(tmp / "models")
    process, service = start(tmp, {**CONFIG, "weights": {"unpublished": True}})
    try:
        told = service.health()
        assert told["speech"]["offline"][-1] == "supertonic" and told["speech"]["natural"].endswith("speak ko")
        assert told["weights"]["voices"] == "present" and "supertonic-m5" in told["voices"]
        with httpx.Client(base_url=service.url, timeout=60) as client:
            voices = {voice["id"]: voice for voice in client.get("/v1/voices").json()["data"]}
            assert voices["supertonic-f1"]["auto_for"] == ["ko"] and voices["espeak-f"]["synthetic"]
            answer = client.post("/v1/audio/speech", json={"input": KOREAN, "voice": "nova", "response_format": "wav"})
        pcm, rate = soundfile.read(io.BytesIO(answer.content), dtype="float32")
        power = np.square(np.abs(np.fft.rfft(pcm)))
        assert abs(np.fft.rfftfreq(len(pcm), 1 / rate)[power.argmax()] - 220) < 5, "the tone that the generated networks make"
        assert measure(resample(pcm, rate)).lufs == pytest.approx(TARGET_LUFS, abs=1.0)
    finally:
        stop(process)

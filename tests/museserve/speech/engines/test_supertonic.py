"""The natural voices on generated networks of the published form: against their makers' own package, and as a voice among the others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from supertonic.core import Style, Supertonic, UnicodeProcessor
from supertonic.loader import load_onnx_modules

from configs.models import SpeechConfig, SupertonicConfig, WeightsConfig
from museserve.errors import ConfigError, EngineUnavailableError
from museserve.messages import Delivery, SpeechRequest
from museserve.speech.engines import loudness, natural, supertonic
from museserve.speech.engines.resample import resample
from museserve.speech.engines.supertonic import LONGEST_KOREAN, MEASURED, SupertonicEngine, encode
from museserve.speech.engines.voice_engine import joined
from museserve.speech.engines.voices import SUPERTONIC
from museserve.speech.offline import OfflineVoices
from museserve.speech.synthesizer import Synthesizer
from museserve.speech.text.lexicon import Lexicon
from museserve.speech.text.sentences import Clause
from museserve.timebase import SPEECH_RATE
from museserve.weights import catalogue
from museserve.weights.download import download
from museserve.weights.folder import FileState, WeightsFolder
from tests.museserve.speech.engines import supertonic_files as files
from tests.museserve.weights.file_server import Served, file_server

WOMAN, MAN = SUPERTONIC["supertonic-f1"], SUPERTONIC["supertonic-m1"]
KOREAN = "안녕하세요, 만나서 반갑습니다."
LONG = "지금까지 진행한 프로젝트 가운데 가장 기억에 남는 것을 하나 골라서 " * 4 + "설명해 주세요."


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> WeightsConfig:
    return WeightsConfig(uri=str(files.write(tmp_path_factory.mktemp("models"))), unpublished=True)


@pytest.fixture(scope="module")
def engine(weights: WeightsConfig) -> SupertonicEngine:
    return SupertonicEngine(WeightsFolder(weights), steps=4)


@pytest.fixture(scope="module")
def published(weights: WeightsConfig) -> Supertonic:
    """The makers' own package on the same files."""
    folder = Path(weights.uri) / "supertonic-3"
    told = json.loads((folder / "onnx" / "tts.json").read_text())
    return Supertonic(told, UnicodeProcessor(str(folder / "onnx" / "unicode_indexer.json")), *load_onnx_modules(folder))


@pytest.mark.parametrize("text", [KOREAN, "Hello there", "값이 “10”—맞나요?", "끝입니다!", "A_b [c] d|e/f", "ㅋㅋ ½ α"])
def test_letters_are_numbered_as_their_makers_do(published: Supertonic, text: str) -> None:
    ids, mask = published.text_processor([text], "ko")
    assert np.array_equal(encode(text, "ko", published.text_processor.indexer), ids[:, ids[0] >= 0])
    assert mask.shape == (1, 1, ids.shape[1])


def test_the_sound_is_that_of_their_makers_package(published: Supertonic, engine: SupertonicEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    style = engine._style(WOMAN)
    theirs, seconds = published([KOREAN], Style(style.ttl, style.dp), total_step=4, speed=1.2, lang="ko")
    ours = engine._synthesize(KOREAN, WOMAN, "ko", 1.2)
    assert len(ours) == pytest.approx(float(seconds[0]) * SPEECH_RATE, abs=2)
    # These networks end where the text leads them, whatever noise they began with.
    assert np.abs(ours - resample(theirs[0, : int(seconds[0] * files.RATE)].astype(np.float32), files.RATE)).max() < 1e-4


def test_a_clause_has_sound_phonemes_and_words(engine: SupertonicEngine) -> None:
    made = joined(engine.speak(KOREAN, WOMAN, "ko", 1.0))
    letters = encode(KOREAN, "ko", engine._loaded().letters).size
    assert len(made.pcm) / SPEECH_RATE == pytest.approx(letters * files.LETTER_S, abs=0.25)
    assert made.phonemes[0].start == 0 and made.phonemes[-1].end == len(made.pcm)
    assert all(before.end == after.start for before, after in zip(made.phonemes, made.phonemes[1:], strict=False))
    assert [p.symbol for p in made.phonemes if p.symbol][1:4] == ["n", "n", "j"]
    assert made.marks[0].first == 0 and KOREAN[made.marks[-1].first :].startswith("반갑습니다")
    assert all(a.end <= b.start for a, b in zip(made.marks, made.marks[1:], strict=False)) and made.marks[-1].end <= len(made.pcm)


@pytest.mark.parametrize("voice", [WOMAN, MAN, SUPERTONIC["supertonic-f5"]], ids=lambda voice: voice.name)
def test_an_unknown_voice_is_brought_to_the_level_of_all(engine: SupertonicEngine, voice) -> None:
    found = loudness.measure(joined(engine.speak(MEASURED, voice, "ko", 1.0)).pcm)
    assert found.lufs == pytest.approx(loudness.TARGET_LUFS, abs=1.0) and found.true_peak_db <= loudness.CEILING_DBTP


def test_the_same_clause_is_the_same_sound_in_any_process(engine: SupertonicEngine, weights: WeightsConfig) -> None:
    other = SupertonicEngine(WeightsFolder(weights), steps=4)
    first, second = (joined(made.speak(KOREAN, MAN, "ko", 1.1)) for made in (engine, other))
    assert np.array_equal(first.pcm, second.pcm)
    assert [p.symbol for p in first.phonemes if p.symbol] == [p.symbol for p in second.phonemes if p.symbol]  # espeak-ng's pitch wavers
    assert len(joined(engine.speak(KOREAN, MAN, "ko", 2.0)).pcm) < 0.7 * len(first.pcm)


def test_a_long_clause_comes_in_parts_that_the_networks_can_say(engine: SupertonicEngine) -> None:
    pieces = list(engine.speak(LONG, WOMAN, "ko", 1.0))
    assert len(pieces) == 2 and pieces[-1].text_end is None
    cut = pieces[0].text_end
    assert cut is not None and cut <= LONGEST_KOREAN and LONG[cut - 1] == " "
    assert pieces[0].marks[-1].last <= cut <= pieces[1].marks[0].first
    assert max(last - first for first, last in supertonic._parts("가" * 1_000, 120)) <= 120


def test_nothing_to_say_is_an_empty_piece(engine: SupertonicEngine) -> None:
    (made,) = engine.speak("‧‧‧", WOMAN, "ko", 1.0)
    assert len(made.pcm) == 0 and made.text_end is None


async def test_auto_takes_them_for_korean_and_says_so(weights: WeightsConfig) -> None:
    made = Synthesizer(SpeechConfig(engine="offline"), weights)
    assert made.info.offline == ("hibari", "piper", "espeak", "supertonic") and "supertonic-3" in made.info.version
    assert made.info.natural == "the natural voices of Supertonic 3 speak ko"
    chunks = [chunk async for chunk in made.stream(SpeechRequest("저는 2024년에 AWS를 썼습니다. This is English.", "auto", 1.0))]
    assert [chunk.engine for chunk in chunks if len(chunk.pcm)] == ["supertonic", "hibari"] and chunks[0].notice == ""
    assert [word.text for word in chunks[0].words] == ["저는", "2024년에", "AWS를", "썼습니다."]
    assert not any(word.estimated for word in chunks[0].words) and chunks[0].phonemes


async def test_they_are_downloaded_once_and_speak_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = {f"supertonic-3/{name}": content for name, content in files.contents().items()}
    known = [
        replace(file, bytes=len(held[file.name]), sha256=hashlib.sha256(held[file.name]).hexdigest())
        for file in catalogue.VOICES
        if not file.optional
    ]
    monkeypatch.setattr(catalogue, "FILES", tuple(known))
    for file in known:
        monkeypatch.setitem(catalogue.BY_NAME, file.name, file)
    with file_server() as server:
        for file in known:
            server.files[f"/Supertone/supertonic-3/resolve/{file.source.partition('@')[2]}/{file.remote}"] = Served(held[file.name])
        broken_off = server.files[next(path for path in server.files if path.endswith("F1.json"))]
        broken_off.cuts = [10_000, 20_000]
        weights = WeightsConfig(uri=str(tmp_path), mirror=server.url)
        assert not natural.find(SpeechConfig(), weights).there
        folder = WeightsFolder(weights)
        for file in catalogue.files_for("voices"):
            assert download(folder, file, backoff_s=0.0).checked
        assert server.sent == sum(map(len, held.values())), "what had come was not sent again"
    assert natural.find(SpeechConfig(), weights).languages == ("ko",)
    assert all(folder.verify(file).state is FileState.VERIFIED for file in known)
    made = Synthesizer(SpeechConfig(engine="offline"), weights)
    chunks = [chunk async for chunk in made.stream(SpeechRequest(KOREAN, "auto", 1.0))]
    assert chunks[0].engine == "supertonic" and loudness.measure(chunks[0].pcm).lufs > -20
    path = folder.path("supertonic-3/onnx/vocoder.onnx")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert folder.verify(catalogue.BY_NAME["supertonic-3/onnx/vocoder.onnx"]).state is FileState.DAMAGED


def test_who_speaks_what(weights: WeightsConfig) -> None:
    def speaks(voice: str, language: str, *languages: str, folder: WeightsConfig | None = weights, gender: str = "female") -> str:
        config = SpeechConfig(engine="offline", supertonic=SupertonicConfig(languages=languages))
        return OfflineVoices(Lexicon.load(None), config, folder).voice(Delivery(voice, 1.0, "auto", gender), language).name

    assert speaks("auto", "ko", "ko") == "supertonic-f1" and speaks("onyx", "ko", "ko") == "supertonic-m1"
    assert speaks("auto", "en", "ko") == "hibari" and speaks("auto", "en", "ko", "en", gender="male") == "supertonic-m1"
    assert speaks("auto", "ko") == "espeak-f" and speaks("supertonic-f3", "ko") == "supertonic-f3"
    assert speaks("espeak-f", "ko", "ko") == "espeak-f" and speaks("supertonic-m2", "zh", "ko") == "espeak-m"
    assert speaks("supertonic-m2", "ko", "ko", folder=None) == "espeak-m"


def test_a_voice_that_is_not_there_is_announced(tmp_path: Path) -> None:
    offline = OfflineVoices(Lexicon.load(None), SpeechConfig(), WeightsConfig(uri=str(tmp_path)))
    clause = Clause(KOREAN, 0, len(KOREAN), "ko", 0.0)
    (piece,) = offline.speak([clause], Delivery("supertonic-f2", 1.0, "ko", "female"))
    assert piece.engine == "espeak"
    why = "16 of the natural voices' files are missing (museserve weights download --for voices)"
    assert piece.notice == f"supertonic-f2 is not there: {why}; espeak-f speaks"


def test_languages_that_they_do_not_speak_are_refused() -> None:
    with pytest.raises(ConfigError, match="speech.supertonic.languages has zh; accepted: ar, "):
        natural.find(SpeechConfig(supertonic=SupertonicConfig(languages=("ko", "zh"))), None)


def _broken(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "supertonic-3" / name).write_bytes(content)


def _other_graph() -> bytes:
    model = files.vocoder()
    model.graph.input[0].name = "latents"
    model.graph.node[0].input[0] = "latents"
    return model.SerializeToString()


def _silent() -> bytes:
    model = files.vocoder()
    for value in model.graph.initializer:
        if value.name == "radians":
            value.CopyFrom(onnx.numpy_helper.from_array(np.asarray(np.float32(0.0)), "radians"))
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("breaks", "match"),
    [
        (_broken("onnx/text_encoder.onnx", b"garbage"), "text_encoder.onnx cannot be opened"),
        (_broken("onnx/vocoder.onnx", _other_graph()), "vocoder.onnx is not the voice that was expected: it takes latents, not latent"),
        (_broken("onnx/vocoder.onnx", _silent()), "the voice supertonic-f1 makes no sound.*weights verify"),
        (_broken("onnx/tts.json", b"{}"), "tts.json is not the description that was expected"),
        (_broken("onnx/tts.json", b"{"), "cannot be loaded"),
        (_broken("onnx/unicode_indexer.json", b"{}"), "unicode_indexer.json is not the list that was expected"),
        (_broken("voice_styles/F1.json", b'{"style_ttl": {}}'), "voice_styles/F1.json is not the voice that was expected"),
        (lambda folder: (folder / "supertonic-3" / "onnx" / "vocoder.onnx").unlink(), "weights download|put a whole file"),
    ],
)
def test_files_that_are_not_the_voices_are_refused(tmp_path: Path, breaks: Callable[[Path], object], match: str) -> None:
    breaks(files.write(tmp_path))
    with pytest.raises(EngineUnavailableError, match=match):
        SupertonicEngine(WeightsFolder(WeightsConfig(uri=str(tmp_path), unpublished=True)), steps=2).warm()

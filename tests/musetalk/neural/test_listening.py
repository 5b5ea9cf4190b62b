"""Speech that is still arriving is heard nearly as the whole utterance is, and exactly so where everything is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'museserve[neural]'")

from museserve.errors import WeightsError  # noqa: E402
from museserve.messages import Conditioning, FloatArray, SpeechChunk, SpeechWindow  # noqa: E402
from museserve.pipeline.speech_buffer import HURRIED_FRAMES, SpeechBuffer  # noqa: E402
from museserve.timebase import SPEECH_RATE, frames_for  # noqa: E402
from museserve.weights.folder import WeightsFolder  # noqa: E402
from musetalk.neural.listening import PIECE_S, WhisperListener, is_speaking  # noqa: E402
from musetalk.neural.networks import read_whisper  # noqa: E402
from musetalk.neural.resample import to_whisper_rate  # noqa: E402
from musetalk.neural.whisper import Version, WhisperEncoder, frame_windows, whole_features  # noqa: E402
from tests.musetalk.neural.networks import apart  # noqa: E402

LONG: dict[str, Any] = {"context_s": 30.0, "lookahead_s": 30.0, "silence_s": 30.0}


def encoder(reach: float = 1.4) -> WhisperEncoder:
    """Weights from a seed, but attention to what is near, as trained ones have it: the closer two places, the more alike their sinusoids."""
    torch.manual_seed(0)
    made = WhisperEncoder(width=64, heads=1, layers=2, hidden=128).eval().requires_grad_(False)
    angle = torch.arange(1500.0)[:, None] * 0.5 ** torch.arange(0, 8, 0.25)
    made.embed_positions.weight.copy_(torch.cat([angle.sin(), angle.cos()], dim=1))
    for layer in made.layers:
        attention: Any = layer.self_attn
        for projection in (attention.q_proj, attention.k_proj):
            projection.weight.copy_(reach * torch.eye(64))
        attention.q_proj.bias.zero_()
    return made


def syllables(seconds: float, seed: int = 0) -> FloatArray:
    """Noise that swells four times a second, at speaking level."""
    n = round(seconds * SPEECH_RATE)
    swell = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * np.arange(n) / SPEECH_RATE)
    return (0.1 * np.random.default_rng(seed).standard_normal(n) * swell).astype(np.float32)


def stretches(pcm: FloatArray, listener: WhisperListener, chunk_s: float, **recorded: Any) -> Iterator[SpeechWindow]:
    buffer, piece = SpeechBuffer(listener.context_s, listener.lookahead_s, **recorded), round(chunk_s * SPEECH_RATE)
    for start in range(0, len(pcm), piece):
        buffer.append(SpeechChunk(start, pcm[start : start + piece], final=start + piece >= len(pcm)))
        while (stretch := buffer.take()) is not None:
            yield stretch


def streamed(pcm: FloatArray, listener: WhisperListener, chunk_s: float, **recorded: Any) -> Any:
    return torch.cat([listener.hear(stretch) for stretch in stretches(pcm, listener, chunk_s, **recorded)])[: frames_for(len(pcm))]


def whole(pcm: FloatArray, version: Version = "v15") -> Any:
    rows = whole_features(encoder(), torch.from_numpy(to_whisper_rate(pcm)), version)
    return frame_windows(rows, 0, frames_for(len(pcm)), end=len(rows), version=version)


@pytest.mark.parametrize("seconds", [2.0, 31.0])
def test_with_everything_there_it_hears_what_the_published_pipeline_does(seconds: float) -> None:
    pcm = syllables(seconds)
    listener = WhisperListener(encoder(), **LONG)
    heard = listener.hear(SpeechWindow(0, pcm, 0, frames_for(len(pcm)), level=0.1, final=True))
    assert apart(heard, whole(pcm)) < 1e-4


@pytest.mark.parametrize("seconds", [2.0, 31.0])
def test_a_recording_is_heard_as_the_published_pipeline_hears_it(seconds: float) -> None:
    pcm, listener = syllables(seconds), WhisperListener(encoder())
    want = whole(pcm)
    assert apart(streamed(pcm, listener, 2.0, piece_s=PIECE_S, hurried=False), want) < 1e-4
    at_once, n = streamed(pcm, listener, 2.0, piece_s=PIECE_S), HURRIED_FRAMES  # somebody waits for its first pictures
    assert apart(at_once[n:], want[n:]) < 1e-4 < apart(at_once[:n], want[:n]) < 0.01


def test_arriving_speech_is_heard_nearly_as_the_whole() -> None:
    pcm = syllables(3.0)
    want = whole(pcm)
    chosen = apart(streamed(pcm, WhisperListener(encoder()), 0.32), want)
    assert chosen < 0.01
    assert chosen < 0.5 * apart(streamed(pcm, WhisperListener(encoder(), lookahead_s=0.08), 0.32), want)
    assert chosen < 0.9 * apart(streamed(pcm, WhisperListener(encoder(), context_s=0.16), 0.32), want)


def test_how_the_speech_was_cut_matters_little() -> None:
    pcm = syllables(3.0)
    listener = WhisperListener(encoder())
    assert apart(streamed(pcm, listener, 0.32), streamed(pcm, listener, 1.6)) < 0.01


def test_a_stretch_is_heard_at_its_true_place_in_the_30_seconds() -> None:
    """Position embeddings are added by place: heard as if it began the 30 s, a late stretch is another one."""
    pcm = syllables(6.0)
    made = encoder()
    made.embed_positions.weight.mul_(20.0)
    listener = WhisperListener(made, **{**LONG, "context_s": 1.0})
    late = listener.hear(SpeechWindow(4 * SPEECH_RATE, pcm[4 * SPEECH_RATE :], 110, 10, level=0.1, final=True))
    early = listener.hear(SpeechWindow(0, pcm[4 * SPEECH_RATE :], 10, 10, level=0.1, final=True))
    assert late.shape == early.shape and apart(late, early) > 0.1


def test_pieces_of_30_seconds_meet_where_the_published_ones_do() -> None:
    """The frames around second 30 hear rows of both pieces."""
    pcm = syllables(32.0)
    listener = WhisperListener(encoder(), **LONG)
    heard = listener.hear(SpeechWindow(0, pcm, 745, 10, level=0.1, final=True))
    assert apart(heard, whole(pcm)[745:755]) < 1e-4


def test_1_0_repeats_the_outer_rows() -> None:
    pcm = syllables(1.0)
    heard = WhisperListener(encoder(), version="v1", **LONG).hear(SpeechWindow(0, pcm, 0, 25, level=0.1, final=True)).unflatten(1, (10, 3))
    assert torch.equal(heard[0, 0], heard[0, 4]) and torch.equal(heard[-1, -1], heard[-1, -4])
    assert not torch.equal(heard[5, 0], heard[5, 4])


@pytest.mark.parametrize("version", ["v15", "v1"])
@pytest.mark.parametrize("samples", [0, 100, 480, 960, 24_000 * 3 // 10])
def test_the_shortest_speech_has_all_its_frames(version: Version, samples: int) -> None:
    n = max(frames_for(samples), 1)
    heard = WhisperListener(encoder(), version=version).hear(SpeechWindow(0, syllables(1.0)[:samples], 0, n, level=0.1, final=True))
    assert heard.shape == (n, 30, 64) and torch.isfinite(heard).all()


def test_silence_costs_nothing_and_is_zero() -> None:
    listener = WhisperListener(encoder())
    listener._encoder = None  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        listener.listen(SpeechWindow(0, syllables(1.0), 0, 25, level=0.1, final=True))
    listener = WhisperListener(encoder())
    heard = listener.listen(SpeechWindow(0, np.zeros(SPEECH_RATE, np.float32), 0, 25, level=0.1, final=True))
    assert isinstance(heard, Conditioning) and not heard.is_speaking.any() and not heard.rows.any() and heard.rows.shape == (25, 30, 64)


def test_listening_gives_half_floats_and_who_speaks() -> None:
    speech = SpeechWindow(0, syllables(2.0), 0, 50, level=0.1, final=True)
    heard = WhisperListener(encoder()).listen(speech)
    assert heard.rows.dtype == np.float16 and heard.rows.shape == (50, 30, 64) and heard.first_frame == 0
    assert np.array_equal(heard.is_speaking, is_speaking(speech)) and heard.is_speaking[10:40].all()


def test_without_its_file_it_names_it(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="whisper/pytorch_model.bin is not in .*museserve weights download"):
        read_whisper(WeightsFolder(str(tmp_path)))

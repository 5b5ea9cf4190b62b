"""Whisper's front end, encoder and windows against transformers' own classes and the published tables."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'museserve[neural]'")
transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install 'museserve[neural]'")

from museserve.errors import WeightsError  # noqa: E402
from musetalk.neural.whisper import (  # noqa: E402
    PIECE_SAMPLES,
    WhisperEncoder,
    frame_windows,
    log_mel,
    mel_filters,
    whole_features,
    window_start,
)
from tests.musetalk.neural.networks import apart  # noqa: E402

RATE = 16_000


def reference(width: int = 64, layers: int = 2, hidden: int = 128) -> Any:
    """transformers' own model with biases and scales away from 0 and 1."""
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        vocab_size=60,
        d_model=width,
        encoder_layers=layers,
        encoder_attention_heads=width // 64,
        encoder_ffn_dim=hidden,
        decoder_layers=1,
        decoder_attention_heads=width // 64,
        decoder_ffn_dim=hidden,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    model = transformers.WhisperModel(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter += 0.05 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module")
def small() -> Any:
    return reference()


def ours(model: Any) -> WhisperEncoder:
    return WhisperEncoder.from_state({f"model.{name}": tensor for name, tensor in model.state_dict().items()})


def sound(seconds: float, loud_from: float = 0.2, seed: int = 0) -> np.ndarray:
    """Noise with syllables; before `loud_from` it is next to nothing, so that it matters where the floor of the spectra is taken from."""
    n = round(seconds * RATE)
    time = np.arange(n) / RATE
    made = np.random.default_rng(seed).standard_normal(n) * (0.5 + 0.5 * np.sin(2 * math.pi * 4 * time)) * np.where(time < loud_from, 1e-5, 0.3)
    return made.astype(np.float32)


def published_rows(model: Any, pcm: np.ndarray) -> Any:
    """The 1.5 pipeline with transformers' classes: pieces of 30 s, all hidden states, padding rows dropped at the end."""
    extractor = transformers.WhisperFeatureExtractor()
    pieces = []
    for start in range(0, len(pcm), PIECE_SAMPLES):
        mel = extractor(pcm[start : start + PIECE_SAMPLES], sampling_rate=RATE, return_tensors="pt").input_features
        states = model.encoder(mel, output_hidden_states=True).hidden_states
        pieces.append(torch.stack(states, dim=2)[0])
    return torch.cat(pieces)[: len(pcm) * 50 // RATE]


def test_the_mel_filters_are_the_published_ones() -> None:
    assert np.abs(mel_filters(80, torch.device("cpu")).numpy() - transformers.WhisperFeatureExtractor().mel_filters.T).max() < 1e-6


@pytest.mark.parametrize("seconds", [0.3, 7.77, 30.0])
def test_the_spectra_are_the_published_ones(seconds: float) -> None:
    pcm = sound(seconds)
    want = transformers.WhisperFeatureExtractor()(pcm, sampling_rate=RATE, return_tensors="pt").input_features[0]
    got = log_mel(torch.nn.functional.pad(torch.from_numpy(pcm), (0, PIECE_SAMPLES - len(pcm))))
    assert got.shape == (80, 3_000) and apart(got, want) < 1e-4


@pytest.mark.parametrize("seconds", [0.5, 31.01])
def test_features_agree_with_transformers_within_1e4(small: Any, seconds: float) -> None:
    pcm = sound(seconds)
    want = published_rows(small, pcm)
    got = whole_features(ours(small), torch.from_numpy(pcm))
    assert got.shape == want.shape == (len(pcm) * 50 // RATE, 3, 64)
    assert apart(got, want) < 1e-4


def test_each_piece_of_30_seconds_is_heard_by_itself(small: Any) -> None:
    pcm = torch.from_numpy(sound(31.01))
    encoder = ours(small)
    whole = whole_features(encoder, pcm)
    assert apart(whole[:1500], whole_features(encoder, pcm[:PIECE_SAMPLES])) < 1e-6
    assert apart(whole[1500:], whole_features(encoder, pcm[PIECE_SAMPLES:])) < 1e-6


@pytest.mark.slow
def test_the_full_size_agrees_with_transformers_within_1e4() -> None:
    model = reference(384, 4, 1536)
    pcm = sound(33.0)
    want, got = published_rows(model, pcm), whole_features(ours(model), torch.from_numpy(pcm))
    assert got.shape == (1_650, 5, 384) and apart(got, want) < 1e-4
    for layer in range(5):
        assert apart(got[:, layer], want[:, layer]) < 1e-4


# --- 1.0 -----------------------------------------------------------------------------------------------------------------


def rows_of_1_0(model: Any, pcm: np.ndarray) -> Any:
    """One log-mel of the whole file, pieces padded with zeros in that space, the last state before the final normalisation."""
    extractor = transformers.WhisperFeatureExtractor(n_samples=len(pcm))
    extractor.n_samples = len(pcm)
    mel = extractor(pcm, sampling_rate=RATE, return_tensors="pt", padding=False).input_features
    before_norm: list[Any] = []
    hook = model.encoder.layer_norm.register_forward_pre_hook(lambda _, inputs: before_norm.append(inputs[0]))
    pieces = []
    for piece in torch.split(mel, 3_000, dim=2):
        states = model.encoder(torch.nn.functional.pad(piece, (0, 3_000 - piece.shape[2])), output_hidden_states=True).hidden_states
        pieces.append(torch.stack([*states[:-1], before_norm[-1]], dim=2)[0, : piece.shape[2] // 2])
    hook.remove()
    return torch.cat(pieces)


def test_1_0_hears_the_whole_file_at_once_and_before_the_last_normalisation(small: Any) -> None:
    pcm = sound(31.5, loud_from=30.5)
    encoder = ours(small)
    got, want = whole_features(encoder, torch.from_numpy(pcm), "v1"), rows_of_1_0(small, pcm)
    assert got.shape == want.shape and apart(got, want) < 1e-4
    newer = whole_features(encoder, torch.from_numpy(pcm))
    assert apart(newer[:, -1], got[:, -1]) > 0.1, "the last state is the normalised one"
    assert apart(newer[:1500, 0], got[:1500, 0]) > 1e-3, "the floor of the spectra was taken from each piece"


# --- checkpoints -----------------------------------------------------------------------------------------------------------


def openai_names(state: dict[str, Any]) -> dict[str, Any]:
    """As in tiny.pt."""
    table = (
        ("self_attn_layer_norm", "attn_ln"),
        ("final_layer_norm", "mlp_ln"),
        ("self_attn.q_proj", "attn.query"),
        ("self_attn.k_proj", "attn.key"),
        ("self_attn.v_proj", "attn.value"),
        ("self_attn.out_proj", "attn.out"),
        ("fc1", "mlp.0"),
        ("fc2", "mlp.2"),
        ("layers.", "blocks."),
        ("layer_norm", "ln_post"),
        ("embed_positions.weight", "positional_embedding"),
    )
    renamed = {}
    for name, tensor in state.items():
        if name.startswith("encoder."):
            for hf, openai in table:
                name = name.replace(hf, openai)
            renamed[name] = tensor
    return {**renamed, "decoder.token_embedding.weight": torch.zeros(3, 3)}


def test_openais_file_gives_the_same_encoder(small: Any) -> None:
    pcm = torch.from_numpy(sound(2.0))
    other = WhisperEncoder.from_state(openai_names(small.state_dict()), "whisper/tiny.pt")
    assert torch.equal(whole_features(other, pcm), whole_features(ours(small), pcm))


def test_what_is_no_whisper_says_so(small: Any) -> None:
    with pytest.raises(WeightsError, match="no Whisper checkpoint.*conv1.weight"):
        WhisperEncoder.from_state({"decoder.x": torch.zeros(1)})
    state = {f"model.{name}": tensor for name, tensor in small.state_dict().items()}
    del state["model.encoder.layers.1.fc2.bias"]
    with pytest.raises(WeightsError, match="1 missing: layers.1.fc2.bias"):
        WhisperEncoder.from_state(state)


# --- windows -------------------------------------------------------------------------------------------------------------


def test_windows_begin_where_the_published_table_says() -> None:
    assert [window_start(frame) for frame in (0, 1, 2, 3, 10, 100)] == [-4, -2, 0, 2, 16, 196]


def test_the_worked_example_of_two_seconds() -> None:
    """At 25 fps: 50 frames of 100 rows; the first has four rows of zeros before it, the last four behind it."""
    rows = torch.arange(1.0, 101.0)[:, None, None].expand(100, 5, 3)
    windows = frame_windows(rows, 0, 50, end=100)
    assert windows.shape == (50, 50, 3)
    heard = windows.unflatten(1, (10, 5))[:, :, 0, 0]
    assert heard[0].tolist() == [0, 0, 0, 0, 1, 2, 3, 4, 5, 6]
    assert heard[2].tolist() == list(range(1, 11))
    assert heard[49].tolist() == [95, 96, 97, 98, 99, 100, 0, 0, 0, 0]


def test_tokens_are_ordered_by_time_and_then_by_layer() -> None:
    rows = (torch.arange(20)[:, None] * 10 + torch.arange(5))[..., None].float()
    assert frame_windows(rows, 2, 1, end=20)[0, :12, 0].tolist() == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 20, 21]


def test_1_0_repeats_the_outer_rows() -> None:
    rows = torch.arange(1.0, 101.0)[:, None, None].expand(100, 5, 1)
    heard = frame_windows(rows, 0, 50, end=100, version="v1").unflatten(1, (10, 5))[:, :, 0, 0]
    assert heard[0].tolist() == [1, 1, 1, 1, 1, 2, 3, 4, 5, 6]
    assert heard[49].tolist() == [95, 96, 97, 98, 99, 100, 100, 100, 100, 100]


def test_a_part_of_the_rows_gives_the_same_windows() -> None:
    rows = torch.randn(300, 3, 4)
    whole = frame_windows(rows, 0, 150, end=300)
    part = frame_windows(rows[90:160], 50, 20, origin=90)
    assert torch.equal(part, whole[50:70])


def test_silence_without_rows_is_zero() -> None:
    assert frame_windows(torch.zeros(0, 5, 384), 0, 3, end=0).abs().sum() == 0

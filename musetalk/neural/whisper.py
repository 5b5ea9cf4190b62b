"""Speech to what MuseTalk's UNet listens to: Whisper's hidden states, ten rows of 20 ms around each frame.

Log-mel front end, encoder and windows are those of the published pipelines. 1.5 (and today's code for both versions): 30 s pieces, each zero-padded
and clamped by itself, the last state after the final LayerNorm, zero rows beyond both ends. 1.0 as it was released: one log-mel of the whole file,
the last state before the final LayerNorm, the first and last row repeated beyond the ends.

Source: MuseTalk repository, musetalk/utils/audio_processor.py at 0a89dec, musetalk/whisper at 058f7dd (MIT); OpenAI Whisper (MIT).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from museserve.errors import WeightsError
from museserve.timebase import FPS, WHISPER_RATE
from musetalk.weights.checkpoint import load_into

Version = Literal["v15", "v1"]

N_FFT = 400
HOP = 160  # 10 ms
PIECE_SAMPLES = 30 * WHISPER_RATE
PIECE_MELS = PIECE_SAMPLES // HOP  # 3,000
FEATURE_RATE = 50  # rows a second: two hops each
PIECE_ROWS = 30 * FEATURE_RATE  # 1,500
ROW_SAMPLES = WHISPER_RATE // FEATURE_RATE  # 320
WINDOW_ROWS = 10  # of one frame
LEAD_ROWS = 4  # of which so many come before the frame
HEAD_WIDTH = 64  # of every published Whisper

_OPENAI_NAMES = (
    ("blocks.", "layers."),
    (".attn_ln.", ".self_attn_layer_norm."),
    (".mlp_ln.", ".final_layer_norm."),
    (".attn.query.", ".self_attn.q_proj."),
    (".attn.key.", ".self_attn.k_proj."),
    (".attn.value.", ".self_attn.v_proj."),
    (".attn.out.", ".self_attn.out_proj."),
    (".mlp.0.", ".fc1."),
    (".mlp.2.", ".fc2."),
    ("ln_post.", "layer_norm."),
    ("positional_embedding", "embed_positions.weight"),
)


class WhisperAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)"""
        q, k, v = (proj(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for proj in (self.q_proj, self.k_proj, self.v_proj))  # (B, nh, T, hs)
        attended: Tensor = self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return attended


class WhisperBlock(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.self_attn = WhisperAttention(width, heads)
        self.final_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.self_attn_layer_norm(x))
        added: Tensor = x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))
        return added


class WhisperEncoder(nn.Module):
    """The encoder with all its hidden states. Names of its tensors are Hugging Face's, without the prefix `model.encoder.`."""

    def __init__(self, n_mels: int = 80, width: int = 384, heads: int = 6, layers: int = 4, hidden: int = 1536, positions: int = 1500) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(n_mels, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(positions, width)
        self.layers = nn.ModuleList(WhisperBlock(width, heads, hidden) for _ in range(layers))
        self.layer_norm = nn.LayerNorm(width)
        self.n_mels, self.width = n_mels, width

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], file: str = "whisper/pytorch_model.bin", mend: str = "") -> WhisperEncoder:
        """An encoder of the size that `state` has, from a whole Whisper checkpoint in Hugging Face's or OpenAI's names.

        file, mend: as for `load_into`.

        Raises:
            WeightsError: it holds no encoder, or tensors are missing, left over or of another shape.
        """
        names = [name for name in state if name.startswith(("encoder.", "model.encoder."))]
        state = {_hf_name(name): state[name] for name in names}
        for name in ("conv1.weight", "embed_positions.weight", "layers.0.fc1.weight"):
            if name not in state:
                raise WeightsError(f"{file} is no Whisper checkpoint: it has no encoder tensor {name} (under Hugging Face's or OpenAI's name)")
        width, n_mels = state["conv1.weight"].shape[:2]
        layers = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("layers."))
        if width % HEAD_WIDTH:
            raise WeightsError(f"{file} has an encoder {width} wide; the published ones are multiples of {HEAD_WIDTH}")
        with torch.device("meta"):
            hidden, positions = len(state["layers.0.fc1.weight"]), len(state["embed_positions.weight"])
            encoder = cls(n_mels, width, width // HEAD_WIDTH, layers, hidden, positions)
        load_into(encoder, state, file=file, mend=mend)
        return encoder.eval()

    def forward(self, mel: Tensor, final_norm: bool = True, position: int = 0) -> Tensor:
        """Hidden states (B, T / 2, layers + 1, width) of log-mel spectra (B, n_mels, T), T even.

        final_norm: the last state is taken after the final LayerNorm (1.5) or before it (1.0).
        position: of the first row in its 30 s; `position` + T / 2 is at most 1,500.
        """
        x = F.gelu(_convolved(self.conv2, F.gelu(_convolved(self.conv1, mel)).transpose(1, 2)))
        x = x + self.embed_positions.weight[position : position + x.shape[1]]
        states = [x]
        for layer in self.layers:
            x = layer(x)
            states.append(x)
        if final_norm:
            states[-1] = self.layer_norm(x)
        return torch.stack(states, dim=2)


def _convolved(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """(B, C, T) -> (B, T / stride, width) as one matrix product: cuDNN plans each length anew, in each thread, for longer than all else takes."""
    windows = F.pad(x, (1, 1)).unfold(2, 3, conv.stride[0])  # (B, C, T / stride, 3)
    return F.linear(windows.transpose(1, 2).flatten(2), conv.weight.flatten(1), conv.bias)


def log_mel(pcm: Tensor, n_mels: int = 80) -> Tensor:
    """Whisper's log-mel spectra (..., n_mels, n // 160) float32 of sound (..., n) at 16 kHz, n more than 200; cut off 8 below the loudest of each.

    A matrix product, because a Fourier transform is planned for each length.
    """
    half = N_FFT // 2
    sound = F.pad(pcm.float().reshape(1, -1, pcm.shape[-1]), (half, half), mode="reflect").reshape(*pcm.shape[:-1], -1)
    spectrum = sound.unfold(-1, N_FFT, HOP)[..., :-1, :] @ _fourier(pcm.device)  # (..., n // 160, 402): real parts, imaginary parts
    real, imaginary = spectrum.chunk(2, dim=-1)
    power = real.square() + imaginary.square()
    mel = mel_filters(n_mels, pcm.device) @ power.transpose(-1, -2)
    log = mel.clamp_min(1e-10).log10()
    floor = log.amax(dim=(-2, -1), keepdim=True) - 8.0
    return (torch.maximum(log, floor) + 4.0) / 4.0


@lru_cache(maxsize=4)
def _fourier(device: torch.device) -> Tensor:
    """Hann's window and the transform of 400 samples, (400, 2 x 201) float32."""
    n, k = np.arange(N_FFT), np.arange(N_FFT // 2 + 1)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / N_FFT)
    angles = 2 * np.pi * (np.outer(n, k) % N_FFT) / N_FFT
    basis = np.concatenate([np.cos(angles), -np.sin(angles)], axis=1) * window[:, None]
    return torch.from_numpy(basis.astype(np.float32)).to(device)


@lru_cache(maxsize=4)
def mel_filters(n_mels: int, device: torch.device) -> Tensor:
    """Slaney's triangles of equal area (n_mels, 201), 0 to 8 kHz: linear below 1 kHz, logarithmic above."""
    # 15 mels at 1 kHz, from there 27 mels for each factor of 6.4.
    top = 15.0 + 27.0 * math.log(8.0) / math.log(6.4)
    mels = np.linspace(0.0, top, n_mels + 2)
    edges = np.where(mels < 15.0, mels * (200.0 / 3.0), 1000.0 * np.exp((mels - 15.0) * (math.log(6.4) / 27.0)))
    hertz = np.linspace(0.0, WHISPER_RATE / 2, N_FFT // 2 + 1)
    rising = (hertz - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - hertz) / np.diff(edges)[1:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return torch.from_numpy(triangles.astype(np.float32)).to(device)


@torch.inference_mode()
def whole_features(encoder: WhisperEncoder, pcm: Tensor, version: Version = "v15") -> Tensor:
    """Rows (n, layers + 1, width) of a whole recording (samples,) at 16 kHz, as the published pipelines make them; n = floor(seconds x 50).

    Rows are in the encoder's dtype. 1.0 makes (mels // 2) of each piece, which is the same number.
    """
    n_rows = len(pcm) * FEATURE_RATE // WHISPER_RATE
    dtype = encoder.conv1.weight.dtype
    if version == "v1":
        mel = log_mel(pcm, encoder.n_mels)
        pieces = [F.pad(piece, (0, PIECE_MELS - piece.shape[1])) for piece in torch.split(mel, PIECE_MELS, dim=1)]
    else:
        pieces = [log_mel(F.pad(piece, (0, PIECE_SAMPLES - len(piece))), encoder.n_mels) for piece in torch.split(pcm, PIECE_SAMPLES)]
    rows = [encoder(piece[None].to(dtype), final_norm=version == "v15")[0] for piece in pieces]
    return torch.cat(rows)[:n_rows]


def window_start(frame: int) -> int:
    """The first of the ten rows that frame number `frame` hears, relative to the first row of the speech.

    At 25 frames a second; at other rates the published versions disagree.
    """
    return frame * FEATURE_RATE // FPS - LEAD_ROWS


def frame_windows(rows: Tensor, first: int, n: int, *, origin: int = 0, end: int | None = None, version: Version = "v15") -> Tensor:
    """What frames `first` .. `first + n - 1` hear: (n, 10 x layers, width), time-major: token = layers x row + layer.

    Args:
        rows: (T, layers, width); row 0 of them is row `origin` of the speech.
        end: rows of the whole speech, when it ends within `rows`; None = it goes on, and all that frames need must be there.
    Rows before the speech and behind its end are zero (1.5), or the nearest one that is there (1.0).
    """
    starts = torch.tensor([window_start(frame) for frame in range(first, first + n)], device=rows.device)
    index = starts[:, None] + torch.arange(WINDOW_ROWS, device=rows.device)
    last = origin + len(rows) if end is None else min(end, origin + len(rows))
    if last <= origin:
        return rows.new_zeros(n, WINDOW_ROWS * rows.shape[1], rows.shape[2])
    picked = rows[(index.clamp(origin, last - 1) - origin)]
    if version == "v15":
        picked = picked * ((index >= 0) & (index < last))[..., None, None]
    return picked.flatten(1, 2)


def _hf_name(name: str) -> str:
    name = name.removeprefix("model.").removeprefix("encoder.")
    for openai, hf in _OPENAI_NAMES:
        name = name.replace(openai, hf)
    return name

"""BiSeNet weights of full size, by chance, with the published names: 191 entries."""

from __future__ import annotations

from pathlib import Path

import torch


def _norm(state, name, n, random):
    state[f"{name}.weight"] = torch.rand(n, generator=random) + 0.5
    state[f"{name}.bias"] = torch.randn(n, generator=random) * 0.1
    state[f"{name}.running_mean"] = torch.randn(n, generator=random) * 0.1
    state[f"{name}.running_var"] = torch.rand(n, generator=random) + 0.5
    state[f"{name}.num_batches_tracked"] = torch.tensor(1000)


def parser_weights(seed: int = 0) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}

    def conv(name, c_out, c_in, k):
        state[f"{name}.weight"] = torch.randn(c_out, c_in, k, k, generator=random) * (2 / (c_in * k * k)) ** 0.5

    def conv_norm(name, c_out, c_in, k):
        conv(f"{name}.conv", c_out, c_in, k)
        _norm(state, f"{name}.bn", c_out, random)

    conv("cp.resnet.conv1", 64, 3, 7)
    _norm(state, "cp.resnet.bn1", 64, random)
    before = 64
    for layer, width in enumerate((64, 128, 256, 512), 1):
        for block in (0, 1):
            name = f"cp.resnet.layer{layer}.{block}"
            conv(f"{name}.conv1", width, before if block == 0 else width, 3)
            _norm(state, f"{name}.bn1", width, random)
            conv(f"{name}.conv2", width, width, 3)
            _norm(state, f"{name}.bn2", width, random)
            if block == 0 and layer > 1:
                conv(f"{name}.downsample.0", width, before, 1)
                _norm(state, f"{name}.downsample.1", width, random)
        before = width
    for name, c_in in (("arm16", 256), ("arm32", 512)):
        conv_norm(f"cp.{name}.conv", 128, c_in, 3)
        conv(f"cp.{name}.conv_atten", 128, 128, 1)
        _norm(state, f"cp.{name}.bn_atten", 128, random)
    conv_norm("cp.conv_head32", 128, 128, 3)
    conv_norm("cp.conv_head16", 128, 128, 3)
    conv_norm("cp.conv_avg", 128, 512, 1)
    conv_norm("ffm.convblk", 256, 256, 1)
    conv("ffm.conv1", 64, 256, 1)
    conv("ffm.conv2", 256, 64, 1)
    for name, c_in, c_mid in (("conv_out", 256, 256), ("conv_out16", 128, 64), ("conv_out32", 128, 64)):
        conv_norm(f"{name}.conv", c_mid, c_in, 3)
        conv(f"{name}.conv_out", 19, c_mid, 1)
    return state


def save_parser(path: Path, seed: int = 0) -> Path:
    """As published: a bare state dict in torch's format from before 1.6."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(parser_weights(seed), path, _use_new_zipfile_serialization=False)
    return path

"""TAESD's decoder: the same latents as the full autoencoder's, decoded with an eighteenth of the work, and a little differently.

Parameter names are those of the published diffusers file, `decoder.layers.N`. Source: madebyollin/taesd (MIT), diffusers' AutoencoderTiny.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musetalk.neural.layers import enlarging, in_parts

CHANNELS = 64
RANGE = 3.0  # latents beyond it are bent back
AT_ONCE = (0, 2, 4, 8)  # frames that what has 128 pixels and more may take at a time: one of 256 pixels has 8 MB in float16


class Rectified(Protocol):
    """What is positive of a 3x3 convolution, with its bias, and of `skip` added to it; pictures (n, c, h, w)."""

    def __call__(self, conv: Any, x: Tensor, skip: Tensor | None = None) -> Tensor: ...


def rectified(conv: Any, x: Tensor, skip: Tensor | None = None) -> Tensor:
    """See `Rectified`."""
    out: Tensor = conv(x)
    return F.relu(out if skip is None else out + skip)


def rectified_by_cudnn(conv: Any, x: Tensor, skip: Tensor | None = None) -> Tensor:
    """The same in one kernel, so that sums are written once, and rounded once. Needs a card, and a PyTorch that was built for it."""
    shape = (conv.stride, conv.padding, conv.dilation, conv.groups)
    if skip is None:
        return torch.ops.aten.cudnn_convolution_relu(x, conv.weight, conv.bias, *shape)  # type: ignore[no-any-return]
    return torch.ops.aten.cudnn_convolution_add_relu(x, conv.weight, skip, 1.0, conv.bias, *shape)  # type: ignore[no-any-return]


def cudnn_rectifies() -> bool:
    """Whether `rectified_by_cudnn` is there: every PyTorch knows these operators' names, those for CUDA have them."""
    return torch.version.cuda is not None and torch.backends.cudnn.is_available()  # type: ignore[no-untyped-call]


class TAESDBlock(nn.Module):
    """Three 3x3 convolutions around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])

    def around(self, x: Tensor, rectified: Rectified) -> Tensor:
        first, _, second, _, third = self.conv
        return rectified(third, rectified(second, rectified(first, x)), x)

    def forward(self, x: Tensor) -> Tensor:
        return self.around(x, rectified)


class TinyDecoder(nn.Module):
    """Scaled latents (n, 4, h, w) to pictures (n, 3, 8 h, 8 w) in about -1..1, as `VAE.decode` gives them.

    Made with the published parameters, for a strict load; `fold` makes it faster.

    Attributes:
        at_once: see `layers.in_parts`, of the layers from `large` on, where pictures have 128 pixels and more.
        inside: `rectified_by_cudnn` is used.
    """

    def __init__(self, channels: int = CHANNELS) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(4, channels, 3, padding=1), nn.ReLU()]
        for blocks in (3, 3, 3):
            layers += [TAESDBlock(channels) for _ in range(blocks)]
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(channels, channels, 3, padding=1, bias=False)]
        layers += [TAESDBlock(channels), nn.Conv2d(channels, 3, 3, padding=1)]
        self.layers = nn.Sequential(*layers)
        self.large, self.at_once, self.inside = 12, 0, False

    @torch.no_grad()
    def fold(self) -> TinyDecoder:
        """Each "nearest x2, then convolution" as one transposed convolution, as `layers.Upsample` has it. Afterwards the state dict is no longer
        the published one.
        """
        layers: list[nn.Module] = []
        for layer in self.layers:
            if layers and isinstance(layers[-1], nn.Upsample) and isinstance(layer, nn.Conv2d):
                layers[-1] = enlarging(layer)
            else:
                layers.append(layer)
        self.layers = nn.Sequential(*layers)
        self.large = 10
        return self.requires_grad_(False).eval()

    def options(self) -> dict[str, tuple[Any, ...]]:
        """Ways to decode that give the same pictures up to rounding, the plain one first; see `choose`."""
        return {"at_once": AT_ONCE, **({"inside": (False, True)} if cudnn_rectifies() else {})}

    def choose(self, at_once: int = 0, inside: bool = False) -> None:
        self.at_once, self.inside = at_once, inside

    def forward(self, latents: Tensor) -> Tensor:
        run: Rectified = rectified_by_cudnn if self.inside else rectified
        x = through(self.layers[2 : self.large], run(self.layers[0], torch.tanh(latents / RANGE) * RANGE), run)
        return in_parts(lambda part: through(self.layers[self.large :], part, run), x, self.at_once) * 2 - 1


def through(layers: Any, x: Tensor, run: Rectified) -> Tensor:
    """Layers of `TinyDecoder`, one after the other, but for the ReLUs, which `run` brings."""
    for layer in layers:
        x = layer.around(x, run) if isinstance(layer, TAESDBlock) else layer(x)
    return x


def decoder_part(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The decoder's tensors of the whole published file, with the names of `TinyDecoder`."""
    return {name.removeprefix("decoder."): tensor for name, tensor in state.items() if name.startswith("decoder.")}

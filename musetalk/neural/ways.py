"""Which of several ways to draw the same pictures is the fastest on this card: each is tried, and its pictures are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

LEAST_GAIN = 0.01  # for less, what is plain stays
LEAST_PSNR_DB = 50.0  # between faces of two ways in half precision, as between half and whole
TRIES = 5


@runtime_checkable
class Decoder(Protocol):
    """A decoder that can do its work in several ways."""

    def options(self) -> Mapping[str, tuple[Any, ...]]:
        """Values of each choice, the plain one first."""

    def choose(self, **way: Any) -> None:
        """From the next call on. What is left out is plain."""


def fastest(options: Mapping[str, tuple[Any, ...]], took_ms: Callable[[dict[str, Any]], float | None]) -> dict[str, Any]:
    """The best value of each choice, one choice after the other.

    took_ms: of a way; None where it cannot be used. The plain way is tried first, and can be.
    """
    best = {name: values[0] for name, values in options.items()}
    least = took_ms(best)
    assert least is not None, "the plain way is what others are compared with"
    for name, values in options.items():
        for value in values[1:]:
            way = {**best, name: value}
            took = took_ms(way)
            if took is not None and took < least * (1 - LEAST_GAIN):
                best, least = way, took
    return best


def psnr_db(got: Tensor, want: Tensor) -> float:
    """Of pictures in 0..255."""
    error = (got.float() - want.float()).square().mean()
    return float(10 * torch.log10(255**2 / error)) if error else float("inf")

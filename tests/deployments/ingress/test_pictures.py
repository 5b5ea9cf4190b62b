"""Portraits as browsers show them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs.models import AppConfig
from deployments.ingress.pictures import SIZES, Pictures, parse_size
from museserve.errors import RequestError
from musetalk.avatars.stores import shipped_store


def test_a_portrait_is_webp_of_the_size_asked_for_and_looks_the_same(tmp_path: Path) -> None:
    config = AppConfig.model_validate({"avatars": {"uri": str(tmp_path)}})
    avatar = shipped_store(config, 2**28).load("interviewer_woman", None)
    pictures = Pictures()
    original = Image.open(io.BytesIO(avatar.portrait_png)).convert("RGB")
    for size in SIZES:
        made = pictures.webp(avatar, size)
        with Image.open(io.BytesIO(made)) as picture:
            assert picture.format == "WEBP" and max(picture.size) == min(size, max(original.size))
            expected = original.resize(picture.size, Image.Resampling.LANCZOS)
            difference = np.asarray(picture.convert("RGB"), np.float64) - np.asarray(expected, np.float64)
        assert 10 * np.log10(255**2 / np.mean(difference**2)) > 34, "dB"
        assert pictures.webp(avatar, size) is made
    assert len(pictures.webp(avatar, 192)) < 10_000 and len(pictures.webp(avatar, 512)) < 60_000


@pytest.mark.parametrize("given", ["", "0", "-1", "193", "512.0", "wide", "9" * 400])
def test_other_sizes_are_refused(given: str) -> None:
    with pytest.raises(RequestError, match="192, 512, 1024") as refused:
        parse_size(given)
    assert len(str(refused.value)) < 100

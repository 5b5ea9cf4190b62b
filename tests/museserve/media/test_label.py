"""The label of finished films: asked for by regions, drawn in a corner and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from configs.models import LabelConfig
from museserve.errors import ConfigError
from museserve.media.compositing import planes
from museserve.media.label import ENGLISH, KOREAN, Label, check_label, label_for
from museserve.messages import SpeechRequest

HELLO, ANNYEONG = SpeechRequest("Hello there."), SpeechRequest("안녕하세요.")


@pytest.mark.parametrize(
    ("burn_in", "region", "speech", "uploaded", "text"),
    [
        ("auto", "", HELLO, True, None),
        ("auto", "US", HELLO, True, None),
        ("auto", "KR", HELLO, False, KOREAN),
        ("auto", "KR", None, True, KOREAN),
        ("auto", "EU", HELLO, False, None),
        ("auto", "EU", HELLO, True, ENGLISH),
        ("auto", "DE", None, True, ENGLISH),
        ("always", "", HELLO, False, ENGLISH),
        ("always", "", ANNYEONG, False, KOREAN),
        ("always", "", None, False, ENGLISH),
        ("never", "KR", HELLO, True, None),
    ],
)
def test_regions_ask_for_it(burn_in: str, region: str, speech: SpeechRequest | None, uploaded: bool, text: str | None) -> None:
    label = label_for(LabelConfig.model_validate({"burn_in": burn_in, "region": region}), speech, uploaded)
    assert (label and label.text) == text


def test_a_text_of_your_own_goes_before() -> None:
    label = label_for(LabelConfig(burn_in="always", text="Made by a machine"), ANNYEONG, False)
    assert label is not None and label.text == "Made by a machine"


@pytest.mark.parametrize("size", [512, 720, 1024])
@pytest.mark.parametrize("position", ["top-left", "top-right", "bottom-left", "bottom-right"])
@pytest.mark.parametrize("text", [ENGLISH, KOREAN, "A very long text that could never fit upon a small picture in letters that one can read"])
def test_it_is_drawn_in_its_corner_alone(size: int, position: str, text: str) -> None:
    frame = np.full((size * 3 // 2, size), 90, np.uint8)
    before = frame.copy()
    Label(text, position).draw(frame)
    changed = [np.argwhere(now != then) for now, then in zip(planes(frame), planes(before), strict=True)]
    rows, columns = changed[0][:, 0], changed[0][:, 1]
    assert len(rows) and np.ptp(rows) < size * 0.25 and np.ptp(columns) < size * 0.75
    assert (rows.max() < size / 2) == position.startswith("top")
    centre = (columns.min() + columns.max()) / 2
    assert centre < size / 2 if position.endswith("left") else centre > size / 2
    luma = planes(frame)[0]
    assert luma.max() > 200 and luma.min() < 60, "white letters on a dark plate"


@pytest.mark.parametrize("text", [ENGLISH, KOREAN, 80 * "W"])
def test_a_tiny_picture_is_no_trouble(text: str) -> None:
    for side in (16, 34, 64):
        Label(text, "bottom-right").draw(np.zeros((side * 3 // 2, side), np.uint8))


def test_letters_without_a_font_are_refused_at_start(tmp_path: Path) -> None:
    check_label(LabelConfig())
    check_label(LabelConfig(text=KOREAN))
    with pytest.raises(ConfigError, match="set label.font"):
        check_label(LabelConfig(text="내 이름"))
    with pytest.raises(ConfigError, match="label.font .* cannot be read"):
        check_label(LabelConfig(text="내 이름", font=tmp_path / "nowhere.ttf"))

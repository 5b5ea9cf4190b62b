"""What `museserve spoken` shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from museserve.app.cli import app


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["spoken", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_each_clause_from_paper_to_lips() -> None:
    korean, english = json.loads(shown("AWS 경력 3년을 말씀해 주세요. Tell me about kubectl.", "--json", "--voice", "onyx"))
    assert (korean["language"], korean["voice"], english["language"]) == ("ko", "espeak-m", "en")
    assert korean["written"] == "AWS 경력 3년을 말씀해 주세요." and english["pronounced"] == ""
    assert korean["spoken"] == "에이더블유에스 경력 삼 년을 말씀해 주세요."
    assert korean["pronounced"] == "에이더블류에스 경녁 쌈 녀늘 말씀해 주세요."
    assert korean["changes"][0] == {"written": "AWS", "spoken": "에이더블유에스", "rule": "lexicon"}
    assert [change["rule"] for change in korean["changes"]] == ["lexicon", "number"]
    assert [word for word, _, _ in korean["words"]] == korean["written"].split()
    starts = [start for _, start, _ in korean["phonemes"]]
    assert len(starts) > 20 and starts == sorted(starts) and all(start < end for _, start, end in korean["phonemes"])
    assert korean["words"][-1][2] <= korean["phonemes"][-1][2] + 0.05


def test_an_entry_of_ones_own_lexicon_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lexicon.yaml").write_text("ko:\n  ZQX: 제트큐엑스\n", encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(f"speech: {{engine: offline, lexicon: {tmp_path / 'lexicon.yaml'}}}\n", encoding="utf-8")
    told = shown("ZQX를 씁니다.", "--config", str(tmp_path / "mine.yaml"))
    assert "'ZQX' to '제트큐엑스' by lexicon" in told


@pytest.mark.parametrize(("arguments", "why"), [((" ",), "empty"), (("Hi", "--language", "xx-yy-zz"), "xx")])
def test_what_cannot_be_spoken_is_told(arguments: tuple[str, ...], why: str) -> None:
    done = CliRunner().invoke(app, ["spoken", *arguments])
    assert done.exit_code != 0 and why in f"{done.output}{done.exception}"

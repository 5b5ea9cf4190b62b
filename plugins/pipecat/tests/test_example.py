"""The example asks its questions of a browser, which an aiortc peer stands in for, and the README's pipeline is one."""

from __future__ import annotations

import asyncio
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("aiortc", reason="NO AIORTC in this environment: pip install 'pipecat-ai[webrtc]'")

from peer import received  # noqa: E402
from pipecat.services.openai.tts import OpenAITTSService  # noqa: E402

PLUGIN = Path(__file__).resolve().parents[1]


async def test_the_example_asks_its_questions(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSESERVE_URL", url)
    example = runpy.run_path(str(PLUGIN.parents[1] / "examples" / "pipecat_agent.py"))
    async with received() as (transport, got):
        await asyncio.wait_for(example["interview"](transport, answer_s=0.2), 150)
        assert (np.abs(got.samples().astype(int)) > 1_000).sum() > 48_000 / 4, "it spoke"
        mouths = [picture[64:100, 44:84].astype(int) for _, picture in got.pictures]
        assert len(mouths) > 25 and max(np.abs(a - b).mean() for a, b in zip(mouths, mouths[1:], strict=False)) > 1


async def test_the_pipeline_of_the_readme(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MUSESERVE_URL", url)
    (code,) = re.findall(r"```python\n(.*?)```", (PLUGIN / "README.md").read_text(encoding="utf-8"), re.S)
    (tmp_path / "bot.py").write_text(code, encoding="utf-8")
    bot = runpy.run_path(str(tmp_path / "bot.py"))
    assert (bot["params"].video_out_width, bot["params"].video_out_is_live) == (512, False)
    async with received() as (transport, _):
        kinds = [type(processor).__name__ for processor in bot["pipeline"](OpenAITTSService(api_key="none"), transport).processors]
    assert "MuseserveVideoService" in kinds

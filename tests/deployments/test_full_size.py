"""The 850 M parameter UNet and the autoencoder on a CPU, through the whole graph: minutes, and 10 GB of memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")


@pytest.mark.slow
@pytest.mark.serve
def test_the_real_size_films_a_segment_in_bounded_memory(tmp_path: Path) -> None:
    out = tmp_path / "full_size.json"
    subprocess.run([sys.executable, "-m", "benchmarks.full_size", "--folder", str(tmp_path / "models"), "--out", str(out)], check=True)
    made = json.loads(out.read_text())
    print(json.dumps(made, indent=1))
    assert made["segment"]["segments"] >= 1 and made["segment"]["engine"] == "musetalk; configured"
    assert made["peak_rss_mb"]["LipSync"] < 10_000

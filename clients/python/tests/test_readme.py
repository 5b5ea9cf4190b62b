"""The first snippet of the README runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1]


def test_the_first_snippet_runs(url: str, tmp_path: Path) -> None:
    snippet = re.search(r"```python\n(.*?)```", (FOLDER / "README.md").read_text(encoding="utf-8"), re.S)
    assert snippet is not None and "http://127.0.0.1:8001" in snippet[1]
    code = snippet[1].replace("http://127.0.0.1:8001", url)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(FOLDER)}, check=True, timeout=120)
    assert (tmp_path / "question.mp4").read_bytes()[4:8] == b"ftyp" and (tmp_path / "question.mp4").stat().st_size > 10_000

"""What every part of the configuration is made of, and the folders that it falls back to."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

SPANS_DIR = "MUSESERVE_SPANS_DIR"


class StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def cache_dir() -> Path:
    """Where prepared avatars lie unless the configuration says otherwise: `MUSESERVE_HOME`, else the user's cache folder."""
    home = os.environ.get("MUSESERVE_HOME")
    if home:
        return Path(home)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "museserve"


def spans_dir() -> Path:
    """Where traces lie that go to files: `MUSESERVE_SPANS_DIR`, else below `cache_dir`."""
    named = os.environ.get(SPANS_DIR)
    return Path(named) if named else cache_dir() / "spans"

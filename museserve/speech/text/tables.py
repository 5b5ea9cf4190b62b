"""How what is written is said, as far as that is data: YAML files beside the code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def table(name: str) -> dict[str, Any]:
    """Written -> said, in the order of `name`.yaml; some have several such tables by name."""
    return dict(yaml.safe_load(Path(__file__).with_name(f"{name}.yaml").read_text(encoding="utf-8")))

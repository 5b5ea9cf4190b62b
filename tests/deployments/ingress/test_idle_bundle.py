"""The idle loop in one response, and how much of it lets a face begin to live."""

from __future__ import annotations

import json
from pathlib import Path

from configs.models import AppConfig
from deployments.ingress.idle_bundle import FIRST_SEGMENTS, LENGTH, first_bytes, packed
from musetalk.avatars.stores import shipped_store


def test_the_first_bytes_hold_the_index_and_three_segments(tmp_path: Path) -> None:
    config = AppConfig.model_validate({"avatars": {"uri": str(tmp_path)}})
    avatar = shipped_store(config, 2**28).load("interviewer_woman", None)
    whole, first = packed(avatar), first_bytes(avatar)
    (length,) = LENGTH.unpack_from(whole)
    index = json.loads(whole[LENGTH.size : LENGTH.size + length])
    assert first == LENGTH.size + length + index["init"] + sum(index["segments"][:FIRST_SEGMENTS]) < len(whole) / 4
    assert LENGTH.size + length + index["init"] + sum(index["segments"]) == len(whole)

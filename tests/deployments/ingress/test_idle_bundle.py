"""The idle loop in one response, and how much of it lets a face begin to live."""

from __future__ import annotations

import json
from pathlib import Path

from configs.models import AppConfig
from deployments.ingress.idle_bundle import FIRST_SEGMENTS, LENGTH, first_bytes, packed
from musetalk.avatars.stores import shipped_store
from tests.decoded import pictures


def test_the_first_bytes_hold_the_index_and_three_segments(tmp_path: Path) -> None:
    config = AppConfig.model_validate({"avatars": {"uri": str(tmp_path)}})
    avatar = shipped_store(config, 2**28).load("interviewer_woman", None)
    whole, first = packed(avatar), first_bytes(avatar)
    (length,) = LENGTH.unpack_from(whole)
    index = json.loads(whole[LENGTH.size : LENGTH.size + length])
    begins = LENGTH.size + length + index["init"]
    assert first == begins + index["segments"][0] + sum(index["steady"][:FIRST_SEGMENTS]) < len(whole) / 16
    assert begins + sum(index["segments"]) + sum(index["steady"]) == len(whole)
    assert len(pictures(whole[LENGTH.size + length : begins + index["segments"][0]])) == 8

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
    gestures = [gesture for made in index["gestures"].values() for gesture in made]
    at = begins + sum(index["segments"]) + sum(index["steady"])
    assert at + sum(sum(gesture["segments"]) for gesture in gestures) == len(whole)
    assert set(index["gestures"]) == {"listening", "thinking"}
    stored = avatar.idle
    assert stored is not None
    for state, made in index["gestures"].items():
        for gesture, kept in zip(made, stored["gestures"][state], strict=True):
            assert gesture["first"] == kept.first
            for size, segment in zip(gesture["segments"], kept.segments, strict=True):
                assert whole[at : at + size] == segment
                at += size
    assert len(pictures(whole[LENGTH.size + length : begins + index["segments"][0]])) == 8

"""What may change while replicas run, and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

import graph
from configs.live import LIVE, live_settings, with_live
from configs.models import load_config
from deployments.live import LiveConfig
from museserve.errors import ConfigError

CONFIG = load_config("cluster")


@pytest.fixture(autouse=True)
def same_level() -> Iterator[None]:
    logger = logging.getLogger("ray.serve")
    before = logger.level
    yield
    logger.setLevel(before)


@pytest.mark.parametrize("key", graph.DEPLOYMENTS)
def test_settings_come_back_as_they_went(key: str) -> None:
    assert set(LIVE) == set(graph.DEPLOYMENTS)
    assert with_live(CONFIG, key, live_settings(CONFIG, key)) == CONFIG


def test_what_is_left_out_stays() -> None:
    changed = with_live(CONFIG, "mux", {"mux": {"lead_s": 1.0}})
    assert changed.mux.lead_s == 1.0
    assert changed.model_copy(update={"mux": CONFIG.mux}) == CONFIG
    assert with_live(CONFIG, "mux", {}) == CONFIG


@pytest.mark.parametrize(
    ("key", "settings", "message"),
    [
        ("mux", {"mux": {"lead_s": 0.1}}, r"mux\.lead_s: Input should be greater"),
        ("mux", {"mux": {"lead_s": {"s": 1}}}, r"mux\.lead_s: Input should be a valid number"),
        ("mux", {"mux": {"lead": 3}}, r"mux\.lead cannot change .* what can: .*mux\.lead_s"),
        ("mux", {"mux": {"media": {"crf": 21}}}, r"mux\.media\.crf cannot change"),
        ("mux", {"mux": 3}, r"user_config of mux: mux cannot change"),
        ("mux", {"mux": {}}, r"mux cannot change"),
        ("mux", {"mux": {"segments_a_call": 8}}, r"segments_a_call asks for 64 frames"),
        ("lipsync", {"lipsync": {"batch": {"max_frames": 8}}}, r"more than lipsync\.batch\.max_frames"),
        ("lipsync", {"lipsync": {"batch": {"at_once": 2}}}, r"lipsync\.batch\.at_once cannot change .* what can: .*lipsync\.batch\.wait_s"),
        ("mux", {"capacity": {"streams": 32}}, r"capacity\.streams: Extra inputs"),
        ("tts", {"mux": {"lead_s": 3.0}}, r"mux\.lead_s cannot change"),
        ("tts", ["server"], r"must be keys and values"),
        ("ingress", None, r"must be keys and values"),
    ],
)
def test_what_is_wrong_is_told(key: str, settings: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        with_live(CONFIG, key, settings)


def test_wrong_settings_end_no_running_replica(caplog: pytest.LogCaptureFixture) -> None:
    wrong = {"mux": {"lead_s": 0.1}}
    with pytest.raises(ConfigError):
        LiveConfig("mux", CONFIG).changed(wrong)
    live = LiveConfig("mux", CONFIG)
    first = live.changed({"mux": {"lead_s": 1.0}})
    assert first is not None and first.mux.lead_s == 1.0
    logger = logging.getLogger("ray.serve")
    logger.addHandler(caplog.handler)
    assert live.changed(wrong) is None
    logger.removeHandler(caplog.handler)
    assert any("refused" in r.getMessage() and "lead_s" in r.getMessage() for r in caplog.records)


def test_the_level_of_the_log_follows() -> None:
    live = LiveConfig("tts", CONFIG)
    live.changed({"server": {"log_level": "ERROR"}})
    assert not logging.getLogger("ray.serve").isEnabledFor(logging.WARNING)
    live.changed({"server": {"log_level": "DEBUG"}})
    assert logging.getLogger("ray.serve").isEnabledFor(logging.DEBUG)

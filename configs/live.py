"""What of the configuration can change while replicas run, and of which deployment: its `user_config` in a Serve document.

It has the shape of the configuration, and is validated as a part of it. What is not named here stands in `args`, whose
change replaces every replica.
"""

from __future__ import annotations

from typing import Any

from configs.models import AppConfig, merged, parse_config
from museserve.errors import ConfigError

# A key stands for all below it. Two deployments have some keys because the one must fit to the other; Mux has all of
# `capacity` because it tells the autoscaling policy.
LIVE: dict[str, tuple[str, ...]] = {
    "ingress": (
        *("server.log_level", "limits.max_live_utterances", "limits.quota", "limits.quotas", "limits.quota_by_address"),
        *("mux.segment_timeout_s", "capacity.wait_s"),
    ),
    "mux": (
        "server.log_level",
        *("mux.lead_s", "mux.segments_a_call", "mux.segments_in_flight", "mux.segment_timeout_s", "mux.retries"),
        *("lipsync.batch.max_frames", "capacity", "deployments.lipsync.max_replicas"),
    ),
    "tts": ("server.log_level",),
    "lipsync": (
        "server.log_level",
        *("lipsync.batch.max_frames", "lipsync.batch.wait_s", "mux.segments_a_call", "capacity.lipsync_streams", "capacity.measured_part"),
    ),
    "face_prep": ("server.log_level",),
}


def live_settings(config: AppConfig, deployment: str) -> dict[str, Any]:
    """The live part of the configuration, nested as in its file. deployment: a key of `deployments`."""
    whole = config.model_dump(mode="json")
    settings: dict[str, Any] = {}
    for key in LIVE[deployment]:
        value: Any = whole
        for name in key.split("."):
            value = value[name]
        settings = merged(settings, _nested(key, value))
    return settings


def with_live(config: AppConfig, deployment: str, settings: Any) -> AppConfig:
    """The configuration with other live settings; what they leave out stays.

    Raises:
        ConfigError: a key that is unknown or cannot change while replicas run, or a value that is not valid.
    """
    origin = f"user_config of {deployment}"
    if not isinstance(settings, dict):
        raise ConfigError(f"{origin} must be keys and values, such as {_nested(LIVE[deployment][0], '...')}; got {settings!r}")
    if fixed := [key for key in _keys(settings, "") if not _covered(key, LIVE[deployment])]:
        raise ConfigError(f"{origin}: {', '.join(fixed)} cannot change while it runs; what can: {', '.join(LIVE[deployment])}")
    return parse_config(merged(config.model_dump(), settings), origin)


def every_live_key() -> set[str]:
    """Of all deployments together."""
    return {key for keys in LIVE.values() for key in keys}


def _keys(settings: dict[str, Any], above: str) -> list[str]:
    found = []
    for name, value in settings.items():
        key = f"{above}{name}"
        found += _keys(value, f"{key}.") if isinstance(value, dict) and value else [key]
    return found


def _covered(key: str, live: tuple[str, ...]) -> bool:
    return any(f"{key}.".startswith(f"{allowed}.") for allowed in live)


def _nested(key: str, value: Any) -> dict[str, Any]:
    for name in reversed(key.split(".")):
        value = {name: value}
    return dict(value)

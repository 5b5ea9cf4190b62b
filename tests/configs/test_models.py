from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from configs.models import AppConfig, AutoscaleConfig, load_config, parse_config
from museserve.errors import ConfigError


@pytest.mark.parametrize("name", sorted(p.stem for p in (Path(__file__).parents[2] / "configs").glob("*.yaml")))
def test_every_shipped_configuration_is_valid(name: str) -> None:
    assert isinstance(load_config(name), AppConfig)


def test_unknown_keys_are_errors_that_name_the_key() -> None:
    with pytest.raises(ConfigError, match=r"lipsync\.batch\.max_frame: Extra inputs"):
        parse_config({"lipsync": {"batch": {"max_frame": 8}}})


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"mux": {"first_pieces": [2, 2]}, "server": {"port": -1}})
    assert "add up to 8" in str(caught.value) and "server.port" in str(caught.value)


@pytest.mark.parametrize("sizes", [[], [8, 2], [2, 2], [0, 8], [256]])
def test_batch_sizes_ascend(sizes: list[int]) -> None:
    with pytest.raises(ConfigError, match="ascending order"):
        parse_config({"lipsync": {"musetalk": {"batch_sizes": sizes}}})


def test_scale_bounds_are_ordered() -> None:
    with pytest.raises(ValueError, match="below min_replicas"):
        AutoscaleConfig(min_replicas=3, max_replicas=2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"metrics_interval_s": 2.0, "look_back_period_s": 2.0}, "above metrics_interval_s"),
        ({"resources": {"GPU": 1}}, "use num_cpus and num_gpus"),
        ({"resources": {"drawing": 0}}, "greater than 0"),
        ({"max_surge_percent": 101}, "less than or equal to 100"),
        ({"max_replicas_per_node": 0}, "greater than or equal to 1"),
    ],
)
def test_scale_is_within_what_serve_takes(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AutoscaleConfig(**wrong)


def test_a_missing_file_names_what_ships(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Shipped: .*local"):
        load_config(tmp_path / "none.yaml")


def test_broken_yaml_says_where(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("server: [1,")
    with pytest.raises(ConfigError, match="not YAML"):
        load_config(path)


def test_overrides_win_over_the_file_and_keep_their_siblings(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("server: {port: 9000, host: 0.0.0.0}")
    config = load_config(path, {"server": {"port": 0}})
    assert (config.server.port, config.server.host) == (0, "0.0.0.0")


def test_keys_are_never_printed() -> None:
    assert "hunter2" not in repr(parse_config({"speech": {"openai": {"api_key": "hunter2"}}}))

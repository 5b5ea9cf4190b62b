"""`museserve serve-config`: the document has nothing in it that Serve would ignore, or show to strangers."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import graph
from configs.live import with_live
from configs.models import AppConfig, load_config, merged
from museserve.app.cli import app
from museserve.app.serve_config import as_yaml, check_document, parse_overrides, serve_document
from museserve.errors import ConfigError


def printed(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["serve-config", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    document: dict[str, Any] = yaml.safe_load(done.stdout)
    return document


def whole(document: dict[str, Any]) -> AppConfig:
    """The configuration that the document stands for: `args`, and what scales and what is live from `deployments`."""
    (application,) = document["applications"]
    scaling = {d["name"]: d["autoscaling_config"] for d in application["deployments"]}
    args = application["args"]
    for deployment in application["deployments"]:
        args = merged(args, deployment["user_config"])
    for key, name in graph.DEPLOYMENTS.items():
        initial = scaling[name].pop("initial_replicas")
        assert initial == max(scaling[name]["min_replicas"], 1)
        args["deployments"][key] |= scaling[name]
    return AppConfig.model_validate(args)


def test_it_is_the_whole_configuration() -> None:
    assert whole(printed()) == load_config("cluster")


def test_its_args_are_what_the_import_path_takes() -> None:
    (application,) = printed()["applications"]
    module, name = application["import_path"].split(":")
    assert (module, name, application["route_prefix"]) == ("graph", "build", "/")
    assert {d["name"] for d in application["deployments"]} == set(graph.DEPLOYMENTS.values())
    graph.assemble(AppConfig.model_validate(application["args"]))


def test_options_are_taken() -> None:
    settings = ("--set", "avatars.uri=s3://mine/a", "--set", "deployments.mux.max_replicas=9")
    document = printed("--port", "9000", "--host", "::", *settings)
    assert document["http_options"] == {"host": "::", "port": 9000}
    config = whole(document)
    mux = config.deployments.mux
    assert (config.avatars.uri, mux.max_replicas, mux.min_replicas) == ("s3://mine/a", 9, 2)


def test_a_change_of_scale_changes_no_args() -> None:
    """Serve replaces every replica when `args` change."""
    (before,) = printed()["applications"]
    settings = ("--set", "deployments.lipsync.min_replicas=3", "--set", "deployments.tts.upscale_delay_s=9")
    (after,) = printed(*settings)["applications"]
    assert before["args"] == after["args"] and before["deployments"] != after["deployments"]


def values(node: Any, path: str = "") -> dict[str, Any]:
    """Every value of the configuration, by its key with dots."""
    if not isinstance(node, dict):
        return {path: node}
    return {k: v for name, inner in node.items() for k, v in values(inner, f"{path}.{name}" if path else name).items()}


@pytest.mark.parametrize(
    "setting",
    [
        *("mux.lead_s=2", "mux.segment_timeout_s=9", "mux.retries=1", "lipsync.batch.wait_s=0.5", "lipsync.batch.max_frames=64"),
        *("limits.max_live_utterances=7", "server.log_level=ERROR", "capacity.lipsync_streams=9", "capacity.aim=0.6"),
        *("capacity.wait_s=1", "capacity.tts_streams=5", "capacity.window_s=9", "deployments.lipsync.max_replicas=5"),
    ],
)
def test_what_is_live_changes_no_args(setting: str) -> None:
    (before,), (after,) = printed()["applications"], printed("--set", setting)["applications"]
    fixed = ("args", "autoscaling_policy", "import_path")
    assert before != after and [before[key] for key in fixed] == [after[key] for key in fixed]


def test_args_alone_are_valid_whatever_is_live() -> None:
    """Serve builds the graph from them, with the defaults in place of what is live."""
    (application,) = printed("--set", "mux.segments_a_call=8", "--set", "lipsync.batch.max_frames=64")["applications"]
    args = AppConfig.model_validate(application["args"])
    for key, name in graph.DEPLOYMENTS.items():
        (settings,) = (d["user_config"] for d in application["deployments"] if d["name"] == name)
        with_live(args, key, settings)


def test_what_is_live_stands_nowhere_else() -> None:
    (application,) = printed()["applications"]
    live = [key for deployment in application["deployments"] for key in values(deployment["user_config"])]
    assert not set(live) & set(values(application["args"]))


def test_logs_are_those_of_the_configuration() -> None:
    assert printed("--set", "server.log_format=text", "--set", "server.log_level=DEBUG")["logging_config"] == {
        "encoding": "TEXT",
        "log_level": "DEBUG",
        "enable_access_log": False,
    }


def test_traces_are_those_of_the_configuration() -> None:
    assert printed("--set", "tracing={enabled: true, exporter: file, sampling_ratio: 0.5}")["tracing_config"] == {
        "enabled": True,
        "exporter_import_path": "deployments.tracing:file",
        "sampling_ratio": 0.5,
    }
    assert printed()["tracing_config"]["enabled"] is False  # said, because Serve keeps what it was told last


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("avatars.uri=", "avatars.uri is empty"),
        ("speech.openai.api_key=sk-secret-1", "speech.openai.api_key: a key"),
        ("cache.uri=s3://id:sk-secret-1@bucket/cache", "cache.uri has credentials"),
        ("avatars.url=s3://a/b", "avatars.url: Extra inputs"),
    ],
)
def test_what_must_not_be_printed_is_refused(setting: str, message: str) -> None:
    done = CliRunner().invoke(app, ["serve-config", "--set", setting])
    assert done.exit_code == 1 and isinstance(done.exception, ConfigError)
    assert message in str(done.exception) and "sk-secret-1" not in str(done.exception) + done.output


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ([], "proxy_locations"),
        (["http_options"], "ports"),
        (["logging_config"], "level"),
        (["applications", 0], "arg"),
        (["applications", 0, "deployments", 1], "max_surge_percents"),
        (["applications", 0, "deployments", 1, "autoscaling_config"], "target_num_ongoing_requests"),
    ],
)
def test_planted_typos_are_found(path: list[Any], key: str) -> None:
    document = serve_document(load_config("cluster"))
    node: Any = document
    for step in path:
        node = node[step]
    node[key] = 1
    with pytest.raises(ConfigError, match=rf"\b{key}: not known to Serve"):
        check_document(document)


def test_values_that_serve_refuses_are_told() -> None:
    document = serve_document(load_config("cluster"))
    document["http_options"]["port"] = "many"
    with pytest.raises(ConfigError, match=r"http_options\.port: "):
        check_document(document)


def test_it_reads_back_as_it_was() -> None:
    document = serve_document(load_config("cluster"))
    assert yaml.safe_load(as_yaml(document)) == document


def test_overrides_nest() -> None:
    wanted = {"a": {"b": 1, "c": {"d": "s3://x/y?z=1"}}, "e": [1, 2], "f": ""}
    assert parse_overrides(["a.b=1", "a.c.d=s3://x/y?z=1", "e=[1, 2]", "f="]) == wanted


@pytest.mark.parametrize("settings", [["a"], ["=1"], ["a..b=1"], ["a={"], ["a=1", "a.b=2"]])
def test_overrides_that_are_none_are_told(settings: list[str]) -> None:
    with pytest.raises(ConfigError, match="setting|YAML|before"):
        parse_overrides(settings)

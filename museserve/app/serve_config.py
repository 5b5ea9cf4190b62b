"""The Serve document of a configuration: what `serve deploy`, compose and a RayService's `serveConfigV2` all take.

`args` is the configuration as `graph.build` gets it, but for what scales and what is live (`configs/live.py`). That stands
under `deployments`: a change of `args`, or of the policy's own, replaces every replica, one of the others none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import yaml
from pydantic import BaseModel, SecretStr, ValidationError
from ray.serve.schema import ServeDeploySchema

import graph
from configs.live import every_live_key, live_settings
from configs.models import AppConfig
from museserve.errors import ConfigError

CREDENTIALS = re.compile(r"://[^/]*@")
SHOWN = "must not stand in a Serve document, which the dashboard shows; use the nodes' environment"


def serve_document(config: AppConfig, host: str = "0.0.0.0", port: int = 8000) -> dict[str, Any]:
    """The document for every node to listen on `host` and `port`.

    Raises:
        ConfigError: the configuration holds on one machine only, or has a secret in it, which the dashboard would show.
    """
    graph.check_cluster(config)
    for key, value in _leaves(config.model_dump(), ""):
        if isinstance(value, SecretStr):
            raise ConfigError(f"{key}: a key {SHOWN}")
        if isinstance(value, str) and CREDENTIALS.search(value):
            raise ConfigError(f"{key} has credentials in it; they {SHOWN}")
    deployments = [
        {
            "name": name,
            "autoscaling_config": graph.autoscaling(getattr(config.deployments, key)),
            "user_config": live_settings(config, key),
        }
        for key, name in graph.DEPLOYMENTS.items()
    ]
    scaling = dict.fromkeys(graph.DEPLOYMENTS, graph.SCALING)
    document = {
        "proxy_location": "EveryNode",
        "http_options": {"host": host, "port": port},
        "logging_config": {
            "encoding": "JSON" if config.server.log_format == "json" else "TEXT",
            "log_level": config.server.log_level,
            "enable_access_log": False,
        },
        "tracing_config": graph.tracing(config.tracing),
        "applications": [
            {
                "name": "museserve",
                "route_prefix": "/",
                "import_path": "graph:build",
                "args": _fixed(config.model_dump(mode="json", exclude={"deployments": scaling})),
                "autoscaling_policy": {"policy_function": "deployments.policy:InProportion"},
                "deployments": deployments,
            }
        ],
    }
    check_document(document)
    return document


def _fixed(node: dict[str, Any], path: str = "") -> dict[str, Any]:
    """What no running replica can change."""
    live = every_live_key()
    return {key: _fixed(value, f"{path}{key}.") if isinstance(value, dict) else value for key, value in node.items() if f"{path}{key}" not in live}


def as_yaml(document: dict[str, Any]) -> str:
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=10_000))


def check_document(document: dict[str, Any]) -> None:
    """Raises ConfigError, with each key that Serve would ignore without a word, and each value that it refuses."""
    wrong = [f"{key}: not known to Serve" for key in _unknown(document, ServeDeploySchema, "")]
    try:
        ServeDeploySchema.model_validate(document)
    except ValidationError as error:
        wrong += [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    if wrong:
        raise ConfigError("the Serve document is not valid:\n  " + "\n  ".join(wrong))


def parse_overrides(settings: Sequence[str]) -> dict[str, Any]:
    """`["avatars.uri=s3://mine/avatars", ...]` as nested keys; a value is YAML.

    Raises ConfigError: no `KEY=VALUE`, or a value that is no YAML.
    """
    nested: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        *parents, last = key.strip().split(".")
        if not equals or not all([*parents, last]):
            raise ConfigError(f"{setting!r} is no setting; it must be KEY=VALUE, such as avatars.uri=s3://bucket/a")
        try:
            value = yaml.safe_load(text) if text else ""
        except yaml.YAMLError:
            raise ConfigError(f"{setting!r}: the value is no YAML; put quotes around it") from None
        inner = nested
        for name in parents:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{setting!r}: {name} was set to {inner!r} before, which has no keys")
        inner[last] = value
    return nested


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}" if path else key)
    else:
        yield path, node


def _unknown(node: Any, model: type[BaseModel], path: str) -> Iterator[str]:
    """Keys of `node` that `model`, or a model inside it, does not have; args and user_config are free."""
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        field = model.model_fields.get(key)
        if field is None:
            yield f"{path}{key}"
            continue
        for inner in _models(field.annotation):
            items = enumerate(value) if isinstance(value, list) else [("", value)]
            for index, item in items:
                yield from _unknown(item, inner, f"{path}{key}.{index}." if index != "" else f"{path}{key}.")


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]

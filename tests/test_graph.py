"""What Serve is told of each deployment, read back from the built graph; and what a cluster refuses."""

from __future__ import annotations

from typing import Any

import pytest
from ray.serve import Application
from ray.serve.deployment import Deployment

import graph
from configs.models import load_config, parse_config
from museserve.errors import ConfigError
from tests.object_store import ObjectStore

SHARED: dict[str, Any] = {"avatars": {"uri": "/shared/avatars"}, "cache": {"uri": "/shared/cache"}}


def deployments(app: Application) -> dict[str, Deployment]:
    """Name -> deployment, of everything that is bound in the application."""
    found: dict[str, Deployment] = {}

    def walk(node: Any) -> None:
        if isinstance(node, Application):
            bound = node._bound_deployment
            found[bound.name] = bound
            for argument in bound.init_args:
                walk(argument)

    walk(app)
    return found


def test_a_cluster_has_every_deployment() -> None:
    assert set(deployments(graph.build(load_config("cluster", SHARED)))) == set(graph.DEPLOYMENTS.values())


@pytest.mark.parametrize("key", graph.DEPLOYMENTS)
def test_options_reach_serve(key: str) -> None:
    scale = {
        **{"min_replicas": 2, "max_replicas": 7, "target_ongoing_requests": 3.5},
        **{"upscale_delay_s": 1.5, "downscale_delay_s": 77, "metrics_interval_s": 1.0, "look_back_period_s": 2.0},
        **{"max_ongoing_requests": 150, "max_queued_requests": 9, "max_replicas_per_node": 3},
        **{"num_cpus": 0.7, "num_gpus": 0.25, "resources": {"drawing": 0.5}},
        **{"max_surge_percent": 60, "graceful_shutdown_timeout_s": 901.0},
    }
    built = deployments(graph.build(load_config("cluster", {**SHARED, "deployments": {key: scale}})))[graph.DEPLOYMENTS[key]]
    options, config = built.ray_actor_options or {}, built._deployment_config
    scaling = config.autoscaling_config
    assert scaling is not None
    assert (options["num_cpus"], options["num_gpus"], options["resources"]) == (0.7, 0.25, {"drawing": 0.5})
    assert built._replica_config.max_replicas_per_node == 3
    assert (config.max_ongoing_requests, config.max_queued_requests, config.max_surge_percent) == (150, 9, 60)
    assert config.graceful_shutdown_timeout_s == 901
    assert {name: getattr(scaling, name) for name in graph.SCALING} == {name: scale[name] for name in graph.SCALING}
    assert scaling.initial_replicas == 2


def test_defaults_of_one_machine_stay() -> None:
    """It stops within seconds: only what serves others through a load balancer waits for its streams."""
    built = deployments(graph.assemble(load_config("local")))
    waits = {name: d._deployment_config.graceful_shutdown_timeout_s for name, d in built.items()}
    assert waits == {"Ingress": 20, "Mux": 120, "TTS": 20, "LipSync": 20, "FacePrep": 20}
    assert {d._deployment_config.max_surge_percent for d in built.values()} == {0}


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("relative/folder", "relative folder"),
        ("ftp://h/x", "of no kind that can be read"),
        ("s3://", "names no folder or bucket"),
        ("s3://?region=eu-west-1", "names no folder or bucket"),
    ],
)
def test_a_place_that_nodes_cannot_share_is_told_before_anything_is_deployed(uri: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"\n  avatars.uri .*{why}"):
        graph.check_cluster(load_config("cluster", {"avatars": {"uri": uri}}))


@pytest.mark.usefixtures("s3_keys")
def test_a_missing_bucket_is_told_before_a_replica_is_replaced(moto: ObjectStore) -> None:
    config = load_config("cluster", {**SHARED, "avatars": {"uri": moto.uri("missing/avatars")}})
    with pytest.raises(ConfigError, match="bucket 'missing' is not there"):
        graph.build(config)


def test_a_cluster_refuses_what_only_one_machine_has() -> None:
    config = parse_config({"lipsync": {"engine": "musetalk"}})
    with pytest.raises(ConfigError) as caught:
        graph.build(config)
    named = ("avatars.uri", "cache.uri", "weights.uri", "deployments.ingress.graceful", "deployments.mux.graceful")
    assert all(f"\n  {key}" in str(caught.value) for key in named)
    graph.assemble(config)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"avatars": {"uri": ""}}, "avatars.uri"),
        ({"cache": {"uri": ""}}, "cache.uri"),
        ({"weights": {"uri": ""}, "lipsync": {"engine": "musetalk"}}, "weights.uri"),
        ({"access": {"keys_file": None}}, "access.keys_file"),
        ({"access": {"keys_file": "keys.json"}}, "access.keys_file"),
        ({"deployments": {"mux": {"graceful_shutdown_timeout_s": 599}}}, r"mux\.graceful_shutdown_timeout_s \(599\)"),
    ],
)
def test_each_is_named_alone(change: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=key) as caught:
        graph.check_cluster(load_config("cluster", change))
    assert len(str(caught.value).splitlines()) == 2


def test_what_is_not_used_needs_no_place() -> None:
    graph.check_cluster(load_config("cluster", {"cache": {"uri": "", "enabled": False}, "weights": {"uri": ""}}))

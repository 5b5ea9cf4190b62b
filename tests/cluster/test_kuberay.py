"""The manifests of a KubeRay cluster: their parts are current, Kubernetes and KubeRay know every key, numbers agree."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import ray
import yaml

import graph
import museserve
from configs.models import AppConfig, load_config
from museserve.app.ray_flags import node_flags
from museserve.app.serve_config import check_document
from tests.cluster.kubernetes import KUBERAY, ROOT, VERSION, Manifest, build, ray_service_errors

OVERLAYS = ("cpu", "gpu", "production", "kind")
GENERATED = ("base/ray-flags.env", *(f"overlays/{name}/serve-config.yaml" for name in ("cpu", "gpu", "kind")))
CUSTOM = ("RayService", "PodMonitor")  # kinds that Kubernetes itself does not have
DRAINING_S = int(node_flags(load_config("cluster").server)["RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"])

built = cache(lambda overlay: build(KUBERAY / "overlays" / overlay))


def of_kind(overlay: str, kind: str) -> list[Manifest]:
    return [copy.deepcopy(manifest) for manifest in built(overlay) if manifest["kind"] == kind]


def service(overlay: str) -> Manifest:
    (manifest,) = of_kind(overlay, "RayService")
    return manifest


def config_map(overlay: str, name: str) -> Manifest:
    (found,) = (m for m in of_kind(overlay, "ConfigMap") if m["metadata"]["name"].startswith(name))
    return found


def document(overlay: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(service(overlay)["spec"]["serveConfigV2"])
    return loaded


def configuration(overlay: str) -> AppConfig:
    return AppConfig.model_validate(document(overlay)["applications"][0]["args"])


def groups(overlay: str) -> dict[str, Manifest]:
    """Name -> pod template, of the head and of each group of workers."""
    cluster = service(overlay)["spec"]["rayClusterConfig"]
    workers = {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    return {"head": cluster["headGroupSpec"]["template"], **workers}


def pods(overlay: str) -> Iterator[Manifest]:
    """Every pod template."""
    yield from groups(overlay).values()
    for kind in ("Job", "StatefulSet"):
        yield from (m["spec"]["template"] for m in of_kind(overlay, kind))


# --- what is generated ------------------------------------------------------------------------------------------------


def generate(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = tmp_path / "bin" / "museserve"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m museserve.app.cli "$@"\n')
    command.chmod(0o755)
    path = f"{command.parent}:{os.environ['PATH']}"
    env = {**os.environ, "INTO": str(tmp_path / "made"), "PYTHONPATH": str(ROOT), "PATH": path}
    return subprocess.run([KUBERAY / "generate", *arguments], env=env, check=False, capture_output=True, timeout=120)


def test_generated_files_are_current(tmp_path: Path) -> None:
    assert generate(tmp_path).returncode == 0
    made = {str(path.relative_to(tmp_path / "made")) for path in (tmp_path / "made").rglob("*") if path.is_file()}
    assert made == set(GENERATED)
    for name in GENERATED:
        assert (KUBERAY / name).read_text() == (tmp_path / "made" / name).read_text(), "run: cluster/kuberay/generate"


def test_a_setting_that_is_refused_changes_no_file(tmp_path: Path) -> None:
    kept = tmp_path / "made" / GENERATED[1]
    kept.parent.mkdir(parents=True)
    kept.write_text("as before")
    done = generate(tmp_path, "--set", "avatars.ur=s3://mine/avatars")
    assert done.returncode and b"avatars.ur" in done.stderr
    assert [path for path in (tmp_path / "made").rglob("*") if path.is_file()] == [kept] and kept.read_text() == "as before"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_service_has_the_serve_document(overlay: str) -> None:
    folder = "gpu" if overlay == "production" else overlay
    generated = (KUBERAY / "overlays" / folder / "serve-config.yaml").read_text()
    assert service(overlay)["spec"]["serveConfigV2"] == generated
    assert config_map(overlay, "serve-config")["data"]["document"] == generated
    check_document(yaml.safe_load(generated))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_ray_container_has_the_flags(overlay: str) -> None:
    flags = config_map(overlay, "ray-flags")
    assert flags["data"] == node_flags(load_config("cluster").server)
    for template in groups(overlay).values():
        (container,) = template["spec"]["containers"]
        assert {"configMapRef": {"name": flags["metadata"]["name"]}} in container["envFrom"]
        assert "env" not in container, "it would win over the flags"


# --- schemas ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_knows_every_key(overlay: str) -> None:
    for manifest in built(overlay):
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, VERSION, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kuberay_knows_every_key(overlay: str) -> None:
    assert ray_service_errors(service(overlay)) == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_of_ray_are_pods(overlay: str) -> None:
    """The RayService's schema holds a pod's loosely; Kubernetes' own is asked, too."""
    for template in groups(overlay).values():
        pod = {"apiVersion": "v1", "kind": "Pod", **template}
        pod["metadata"] = {"name": "x", **template["metadata"]}
        kubernetes_validate.validate(pod, VERSION, strict=True)


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (["spec"], "serveConfigV3", "x"),
        (["spec", "upgradeStrategy"], "kind", "None"),
        (["spec", "rayClusterConfig", "autoscalerOptions"], "idleTimeoutSecond", 60),
        (["spec", "rayClusterConfig", "workerGroupSpecs", 0], "minReplica", 1),
        (["spec", "rayClusterConfig", "workerGroupSpecs", 0, "template", "spec"], "terminationGracePeriod", 60),
        (["spec", "rayClusterConfig", "headGroupSpec", "template", "spec", "containers", 0], "envfrom", []),
        (["spec", "rayClusterConfig", "workerGroupSpecs", 0], "minReplicas", "two"),
    ],
)
def test_planted_typos_are_found(path: list[Any], key: str, value: Any) -> None:
    manifest = service("cpu")
    node: Any = manifest
    for step in path:
        node = node[step]
    node[key] = value
    (error,) = ray_service_errors(manifest)
    assert key in error


def test_pod_monitors_scrape_ports_that_pods_have() -> None:
    """Its kind has no schema here, so its few keys are named."""
    (monitor,) = of_kind("production", "PodMonitor")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert set(monitor["spec"]) == {"selector", "podMetricsEndpoints"}
    templates = groups("production").values()
    named = {port["name"] for template in templates for port in template["spec"]["containers"][0]["ports"]}
    for endpoint in monitor["spec"]["podMetricsEndpoints"]:
        assert set(endpoint) <= {"port", "relabelings", "metricRelabelings"} and endpoint["port"] in named
    jobs = {
        label["replacement"]
        for endpoint in monitor["spec"]["podMetricsEndpoints"]
        for label in endpoint["relabelings"]
        if label["targetLabel"] == "job"
    }
    scraped = yaml.safe_load((KUBERAY.parent / "monitoring" / "prometheus.yml").read_text())["scrape_configs"]
    assert jobs == {config["job_name"] for config in scraped}  # rules.yaml asks for them
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    assert all(template["metadata"]["labels"].items() >= wanted for template in templates)


def test_incremental_upgrade_can_be_added(tmp_path: Path) -> None:
    folder = KUBERAY / "components" / "incremental-upgrade"
    relative = os.path.relpath(folder, tmp_path)
    base = os.path.relpath(KUBERAY / "overlays" / "production", tmp_path)
    (tmp_path / "kustomization.yaml").write_text(f"resources: [{base}]\ncomponents: [{relative}]\n")
    (manifest,) = (m for m in build(tmp_path) if m["kind"] == "RayService")
    strategy = manifest["spec"]["upgradeStrategy"]
    assert strategy["type"] == "NewClusterWithIncrementalUpgrade"
    options = strategy["clusterUpgradeOptions"]
    assert options["stepSizePercent"] <= options["maxSurgePercent"]
    assert manifest["spec"]["rayClusterConfig"]["enableInTreeAutoscaling"] and ray_service_errors(manifest) == []


# --- numbers that must agree ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_versions_are_those_of_this_project(overlay: str) -> None:
    assert service(overlay)["spec"]["rayClusterConfig"]["rayVersion"] == ray.__version__
    images = {c["image"] for template in pods(overlay) for c in template["spec"]["containers"]}
    own = {image for image in images if image.startswith("museserve:")}
    target = "gpu" if overlay in ("gpu", "production") else "cpu"
    assert own == {f"museserve:{museserve.__version__}-{target}"}
    assert all(":" in image and not image.endswith(":latest") for image in images)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_workers_end_their_streams(overlay: str) -> None:
    """Streams, then HAProxy's draining, then the pod; and so long does an old cluster stay."""
    scales = configuration(overlay).deployments
    longest = max(scales.ingress.graceful_shutdown_timeout_s, scales.mux.graceful_shutdown_timeout_s) + DRAINING_S
    spec = service(overlay)["spec"]
    assert spec["rayClusterDeletionDelaySeconds"] > longest
    for name, template in groups(overlay).items():
        if name == "head":
            continue
        (container,) = template["spec"]["containers"]
        command = container["lifecycle"]["preStop"]["exec"]["command"]
        drain_s = int(next(word for word in command if word.startswith("DRAIN_S=")).removeprefix("DRAIN_S="))
        assert longest <= drain_s < template["spec"]["terminationGracePeriodSeconds"] - 30


def test_a_replaced_haproxy_outlives_its_connections() -> None:
    config = load_config("cluster")
    kept_s = int(node_flags(config.server)["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"])
    assert kept_s >= max(config.sessions.session_s, config.limits.max_utterance_s)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_workers_hold_the_smallest_service_twice_where_it_surges(overlay: str) -> None:
    """A version that starts beside the old one needs its room; else it waits for the autoscaler."""
    spec = service(overlay)["spec"]["rayClusterConfig"]
    room = {"cpu": 0.0, "nvidia.com/gpu": 0.0}
    for group in spec["workerGroupSpecs"]:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        for name in room:
            room[name] += group["replicas"] * float(limits.get(name, 0))
    (application,) = document(overlay)["applications"]
    minimum = {d["name"]: d["autoscaling_config"]["min_replicas"] for d in application["deployments"]}
    cpus = gpus = 0.0
    for key, scale in configuration(overlay).deployments:
        replicas = minimum[graph.DEPLOYMENTS[key]] * (2 if scale.max_surge_percent == 100 else 1)
        cpus, gpus = cpus + replicas * scale.num_cpus, gpus + replicas * scale.num_gpus
    assert cpus <= room["cpu"] and gpus <= room["nvidia.com/gpu"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_ports_agree(overlay: str) -> None:
    port = document(overlay)["http_options"]["port"]
    containers = {name: template["spec"]["containers"][0] for name, template in groups(overlay).items()}
    ports = {name: {p["name"]: p["containerPort"] for p in c["ports"]} for name, c in containers.items()}
    assert all(p["serve"] == port for p in ports.values())
    (policy,) = (m for m in of_kind(overlay, "NetworkPolicy") if m["metadata"]["name"] == "museserve")
    allowed = {p["port"] for rule in policy["spec"]["ingress"] for p in rule.get("ports", ())}
    assert allowed <= ports["head"].keys()
    (ingress,) = of_kind(overlay, "Ingress")
    (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"] == {"name": "museserve-serve-svc", "port": {"number": port}}
    body = ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]
    assert int(body.removesuffix("m")) * 2**20 >= configuration(overlay).limits.max_clip_bytes


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_are_locked(overlay: str) -> None:
    for template in pods(overlay):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0
        volumes = {v["name"] for v in spec.get("volumes", ())} | {"data"}  # a StatefulSet's is a claim of its own
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]
            assert {m["name"] for m in container["volumeMounts"]} <= volumes


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_key_is_written_down(overlay: str) -> None:
    assert of_kind(overlay, "Secret") == []
    for template in groups(overlay).values():
        sources = template["spec"]["containers"][0]["envFrom"]
        assert {"secretRef": {"name": "museserve-keys", "optional": True}} in sources


def test_a_lost_card_or_worker_leaves_one() -> None:
    spec = {g["groupName"]: g for g in service("production")["spec"]["rayClusterConfig"]["workerGroupSpecs"]}
    assert spec["gpu"]["minReplicas"] >= 2 and spec["cpu"]["minReplicas"] >= 3
    (budget,) = of_kind("production", "PodDisruptionBudget")
    assert budget["spec"]["minAvailable"] == sum(g["minReplicas"] for g in spec.values()) - 1


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_job_takes_the_configuration_out_of_the_document(overlay: str, tmp_path: Path) -> None:
    (job,) = of_kind(overlay, "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    program = container["args"][0].split("<<'END'\n")[1].split("END\n")[0]
    (tmp_path / "document").write_text(config_map(overlay, "serve-config")["data"]["document"])
    exec(program.replace("/etc/museserve/", f"{tmp_path}/").replace("/tmp/config.yaml", f"{tmp_path}/config.yaml"))
    assert load_config(tmp_path / "config.yaml") == configuration(overlay)


def test_scripts_are_whole() -> None:
    for script in (KUBERAY / "generate", KUBERAY / "base" / "drain.sh"):
        subprocess.run(["bash", "-n", str(script)], check=True)

"""Dockerfile and compose file, by the programs that read them; no container is started."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.models import ServerConfig
from museserve.app.ray_flags import node_flags, one_machine_flags
from tests.cluster.programs import CLUSTER, output
from tests.test_packaging import SHIPPED

PROFILES = {"cpu": {"cpu"}, "gpu": {"gpu"}, "monitoring": {"prometheus", "grafana"}, "store": {"store", "bucket"}}
COMPOSE = yaml.safe_load((CLUSTER / "compose.yaml").read_text())


def compose(*arguments: str, **environment: str) -> str:
    return output("docker-compose", *arguments, env={"PATH": os.environ["PATH"], **environment})


@pytest.mark.parametrize("profile", PROFILES)
def test_compose_reads_each_profile(profile: str) -> None:
    compose("--profile", profile, "config", "-q")
    assert set(compose("--profile", profile, "config", "--services").split()) == PROFILES[profile]


@pytest.mark.parametrize("arguments", [(), ("--profile", "gpu")])
def test_up_alone_runs_the_cpu_engine_and_the_profile_gpu_one_in_its_place(arguments: tuple[str, ...]) -> None:
    services: dict[str, Any] = yaml.safe_load(compose(*arguments, "config"))["services"]
    ((name, service),) = services.items()
    assert name == (arguments or ("cpu",))[-1]
    published = {port["published"]: port["host_ip"] for port in service["ports"]}
    assert published == {"8001": "127.0.0.1", "8265": "127.0.0.1"}
    assert service["read_only"] is True


def test_settings_come_from_a_file_or_the_environment_which_goes_before_it(tmp_path: Path) -> None:
    for name in ("compose.yaml", ".env", "defaults.env", "environment.env"):
        shutil.copy(CLUSTER / name, tmp_path)

    def environment(**given: str) -> dict[str, str]:
        read = compose("--project-directory", str(tmp_path), "-f", str(tmp_path / "compose.yaml"), "config", **given)
        found: dict[str, str] = yaml.safe_load(read)["services"]["cpu"]["environment"]
        return found

    plain = environment()
    assert plain["MUSESERVE_AUTH"] == "none" and not {"AWS_ACCESS_KEY_ID", "MUSESERVE_CONFIG"} & set(plain)
    (tmp_path / "settings.env").write_text("OPENAI_API_KEY=of the file\nAWS_DEFAULT_REGION=eu-west-1\nMUSESERVE_AUTH=keys\n")
    mixed = environment(OPENAI_API_KEY="mine")
    assert mixed["OPENAI_API_KEY"] == "mine" and mixed["AWS_DEFAULT_REGION"] == "eu-west-1" and mixed["MUSESERVE_AUTH"] == "keys"
    assert environment(MUSESERVE_AUTH="none")["MUSESERVE_AUTH"] == "none"


def test_keys_come_from_the_environment_alone() -> None:
    for name, service in COMPOSE["services"].items():
        for variable, value in service.get("environment", {}).items():
            assert not (value and re.search("KEY|SECRET|PASSWORD|TOKEN", variable)), (name, variable)
    for name in (".env", "defaults.env", "environment.env", "settings.env.example"):
        assert not re.search(r"(KEY|SECRET|PASSWORD)\w*=.", (CLUSTER / name).read_text()), name


def test_every_image_has_a_version() -> None:
    images = [service["image"] for service in COMPOSE["services"].values()]
    images += re.findall(r"^ARG BASE=(\S+)", (CLUSTER / "Dockerfile").read_text(), re.M)
    assert images and not [image for image in images if ":" not in image or image.endswith(":latest")]


def test_what_compose_restarts_it_also_watches() -> None:
    built = "HEALTHCHECK" in (CLUSTER / "Dockerfile").read_text()
    for name, service in COMPOSE["services"].items():
        if service.get("restart") == "unless-stopped":
            assert "healthcheck" in service or ("build" in service and built), name


def test_the_dockerfile_is_clean() -> None:
    assert output("hadolint", "Dockerfile") == ""


def test_the_builder_gets_what_the_wheel_is_made_of_and_no_more() -> None:
    lines = (CLUSTER.parent / ".dockerignore").read_text().splitlines()
    allowed = {line[1:].rstrip("/") for line in lines if line.startswith("!")}
    assert "*" in lines and allowed == {*SHIPPED, "constraints.txt", "cluster/entrypoint.sh"}


def test_the_entrypoint_is_a_program_of_bash() -> None:
    assert os.access(CLUSTER / "entrypoint.sh", os.X_OK)
    output("bash", "-n", "entrypoint.sh")


def test_rays_flags_are_written_in_one_place() -> None:
    """`museserve flags` prints them."""
    flags = node_flags(ServerConfig()) | one_machine_flags(ServerConfig(), CLUSTER)
    for name in ("Dockerfile", "compose.yaml", "entrypoint.sh", "settings.env.example"):
        text = (CLUSTER / name).read_text()
        assert not [flag for flag in flags if flag in text], name


def test_the_store_has_the_bucket_that_is_named_to_the_service() -> None:
    example = (CLUSTER / "settings.env.example").read_text()
    buckets = re.findall(r"uri=s3://([^/]+)/", example)
    assert buckets and all(f"-name {bucket}'" in COMPOSE["services"]["bucket"]["command"][-1] for bucket in buckets)

"""What the README promises: its commands run, its links lead somewhere, its tables name what exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from configs.models import AppConfig
from deployments.ingress.openapi import document

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"<!-- tested -->\n```sh\n(.*?)```", README, re.S) for line in block.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


@pytest.mark.parametrize("command", COMMANDS)
def test_command_runs(command: str, folder: Path) -> None:
    """`museserve` is this interpreter's; everything else is what a shell has."""
    shell = f'museserve() {{ "{sys.executable}" -m museserve.app.cli "$@"; }}; set -o pipefail; {command}'
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MUSESERVE_HOME": str(folder / "home")}
    done = subprocess.run(["bash", "-c", shell], cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    written = re.search(r"-o (\S+)", command)
    assert (folder / written.group(1)).stat().st_size > 10_000 if written else done.stdout


def test_commands_are_found() -> None:
    assert len(COMMANDS) >= 3


def test_links_lead_to_files_of_this_repository() -> None:
    linked = re.findall(r"\]\(([^)#]+)\)", README) + re.findall(r'src="([^"]+)"', README)
    assert linked
    missing = [path for path in linked if not path.startswith("http") and not (ROOT / path).exists()]
    assert missing == []


def test_api_table_names_every_path_and_no_other() -> None:
    cells = [line.split("|")[1] for line in README.splitlines() if re.match(r"\| `(GET|POST|DELETE) ", line)]
    named = {path for cell in cells for path in re.findall(r"`(?:GET|POST|DELETE) (\S+)`", cell)}
    assert named - {"/openapi.json"} == set(document()["paths"]) - {"/openapi.json"}


def test_configuration_table_names_real_keys() -> None:
    rows = re.search(r"\| key \| default .*?\n\n", README, re.S)
    assert rows
    schema = AppConfig.model_json_schema()

    def resolve(name: str) -> None:
        node = schema
        for part in name.split("."):
            if part == "*":
                return
            node = schema["$defs"][node["$ref"].split("/")[-1]] if "$ref" in node else node
            assert part in node["properties"], name
            node = node["properties"][part]

    for row in rows.group().splitlines()[2:]:
        cell = row.split("|")[1] if row.startswith("|") else ""
        base = ""
        for name in re.findall(r"`([^`]+)`", cell):
            base = name if not name.startswith(".") else base.rsplit(".", 1)[0] + name
            resolve(base)


def test_layout_names_real_folders() -> None:
    layout = re.search(r"## Layout\n\n```\n(.*?)```", README, re.S)
    assert layout
    for line in layout.group(1).splitlines():
        assert (ROOT / line.split()[0]).exists(), line

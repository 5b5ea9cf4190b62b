"""Nothing is installed whose licence nobody looked at, and no secret lies in the repository."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import transient_settings

from tests.licences import EXPLAINED, closure, is_permissive, licence

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
LISTED = dict(re.findall(r"^\| `([\w.-]+)` \| (.+) \|$", PAGE, re.M))
KINDS = (
    "AWSKeyDetector",
    "AzureStorageKeyDetector",
    "BasicAuthDetector",
    "GitHubTokenDetector",
    "GitLabTokenDetector",
    "JwtTokenDetector",
    "KeywordDetector",
    "NpmDetector",
    "OpenAIDetector",
    "PrivateKeyDetector",
    "PypiTokenDetector",
    "SlackDetector",
)
# What looks like a secret and is none: names of secrets, passwords of examples and tests.
NO_SECRETS = {
    ("cluster/kuberay/base/rayservice.yaml", "Secret Keyword"),  # the name of a Secret
    ("cluster/kuberay/overlays/production/kustomization.yaml", "Secret Keyword"),
    ("plugins/pipecat/tests/test_example.py", "Secret Keyword"),
    ("tests/cluster/test_containers.py", "Secret Keyword"),
    ("tests/cluster/test_serve_config.py", "Basic Auth Credentials"),
    ("tests/configs/test_models.py", "Secret Keyword"),
    ("tests/deployments/test_kept.py", "Secret Keyword"),
    ("tests/museserve/access/test_keys.py", "Secret Keyword"),
    ("tests/museserve/speech/engines/test_openai.py", "Secret Keyword"),
    ("tests/museserve/speech/test_synthesizer.py", "Secret Keyword"),
}


@pytest.mark.parametrize("name", closure())
def test_each_package_has_a_licence_that_was_looked_at(name: str) -> None:
    stated = licence(closure()[name])
    nvidias = name.startswith("nvidia-")  # of PyTorch's builds with CUDA
    assert nvidias or name in EXPLAINED or is_permissive(stated), f"{name} states {stated!r}: look at it, and explain it in THIRD_PARTY.md"
    assert LISTED.get(name, stated) == stated, "make docs writes docs/licences.md"  # other Pythons need some that are not listed


def test_the_page_lists_what_is_there() -> None:
    assert len(set(LISTED) & set(closure())) > 90


def test_what_asks_for_more_is_explained() -> None:
    third = (ROOT / "THIRD_PARTY.md").read_text(encoding="utf-8")
    assert [name for name in EXPLAINED if f"`{name}`" not in third] == []


@pytest.mark.parametrize("stated", ["", "GPL-3.0-only", "MIT AND GPL-2.0", "LGPL-2.1 OR SSPL-1.0", "Proprietary"])
def test_other_licences_are_not_permissive(stated: str) -> None:
    assert not is_permissive(stated)


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [
        name for name in listed.stdout.split() if not re.search(r"\.(png|jpg|npy|npz|xz|task|arrow)$|package-lock\.json$|^tests/fuzz/corpus/", name)
    ]


def found(names: list[str], root: Path) -> set[tuple[str, str]]:
    secrets = SecretsCollection(root=str(root))
    with transient_settings({"plugins_used": [{"name": kind} for kind in KINDS]}):
        for name in names:
            secrets.scan_file(name)
    return {(name, secret.type) for name, secret in secrets}


def test_no_secret_is_in_the_repository() -> None:
    seen = found(tracked(), ROOT)
    assert seen - NO_SECRETS == set(), "if it is none, say so in NO_SECRETS"
    assert NO_SECRETS - seen == set(), "what is not there any more need not be in NO_SECRETS"


def test_a_secret_would_be_found(tmp_path: Path) -> None:
    lines = ["aws_key = 'AKIA" + "Z7KQ3JX5WN2PLT4M'", "-----BEGIN " + "RSA PRIVATE KEY-----"]
    (tmp_path / "a.py").write_text("\n".join(lines))
    assert {kind for _, kind in found(["a.py"], tmp_path)} == {"AWS Access Key", "Private Key"}

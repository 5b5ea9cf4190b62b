"""What is installed, and what a cluster ships: a wheel with five names in it, and the working directory as a zip."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from deployments.ingress import page
from tests.object_store import ObjectStore

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ("LICENSE", "README.md", "configs", "deployments", "graph.py", "museserve", "musetalk", "pyproject.toml", "web")
NAMES = {"configs", "deployments", "graph.py", "museserve", "musetalk"}
BUILD = """
import sys; from configs.models import load_config; from graph import build
print(type(build(load_config("cluster", {"avatars": {"uri": sys.argv[1]}, "cache": {"uri": sys.argv[1]}}))).__name__)
"""


def run(folder: Path, *arguments: str, home: Path) -> str:
    """This interpreter, with nothing of this project on its path but `folder`."""
    env = {**os.environ, "PYTHONPATH": str(folder), "MUSESERVE_HOME": str(home)}
    done = subprocess.run([sys.executable, *arguments], cwd=home, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that are shipped, as a checkout has them."""
    folder = tmp_path_factory.mktemp("sources")
    unwanted = shutil.ignore_patterns("__pycache__", "node_modules")
    for name in SHIPPED:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=unwanted)
        else:
            shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), "."]
    subprocess.run(command, cwd=sources, check=True, capture_output=True, timeout=120)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel in it and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), str(wheel)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return folder


def test_the_wheel_installs_five_names(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == NAMES
    modules = {str(path.relative_to(ROOT)) for top in NAMES for path in ROOT.glob(f"{top}/**/*.py")}
    assert modules <= set(names)
    files = {str(path.relative_to(ROOT)) for top in NAMES for path in (ROOT / top).rglob("*") if path.is_file()}
    left_out = {name for name in files if "__pycache__" not in name} - set(names)
    assert left_out == set()


def test_the_wheel_has_the_whole_page_and_no_tools_of_its_developers(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        there = {name.removeprefix("museserve/web/") for name in archive.namelist() if name.startswith("museserve/web/")}
    assert {path.as_posix() for path in page.files()} <= there
    assert {f"dist/{path.name}" for path in (ROOT / "web" / "dist").glob("*")} <= there, "the bundle goes along where there is one"
    assert not [name for name in there if re.search(r"node_modules|eslint|package|bundle", name)]


def test_an_installed_wheel_speaks(installed: Path, tmp_path: Path) -> None:
    there = run(installed, "-c", "import museserve; print(museserve.__file__)", home=tmp_path)
    assert Path(there).is_relative_to(installed)
    script = (installed / "bin" / "museserve").read_text(encoding="utf-8")
    assert "museserve.app.cli" in script
    run(installed, str(installed / "bin" / "museserve"), "say", "Hello.", "-o", str(tmp_path / "out.mp4"), home=tmp_path)
    assert (tmp_path / "out.mp4").stat().st_size > 10_000
    listed = "from deployments.ingress import page; print(page.folder(), len(list(page.files())))"
    folder, count = run(installed, "-c", listed, home=tmp_path).split()
    assert Path(folder).is_relative_to(installed) and int(count) == len(list(page.files()))


@pytest.fixture
def bucket_uri(moto: ObjectStore, s3_keys: None) -> str:
    return moto.uri(moto.new_bucket())


def test_an_installed_wheel_builds_the_graph(installed: Path, bucket_uri: str, tmp_path: Path) -> None:
    assert run(installed, "-c", BUILD, bucket_uri, home=tmp_path) == "Application"


def test_the_working_directory_as_a_zip_builds_the_graph(sources: Path, bucket_uri: str, tmp_path: Path) -> None:
    """As a cluster ships it: unpacked somewhere, with no metadata of an installation beside it."""
    shipped = tmp_path / "shipped"
    with zipfile.ZipFile(shutil.make_archive(str(tmp_path / "working_dir"), "zip", sources)) as archive:
        archive.extractall(shipped)
    home = tmp_path / "home"
    home.mkdir()
    code = f"import museserve; print(museserve.__file__, museserve.__version__){BUILD}"
    place, application = run(shipped, "-c", code, bucket_uri, home=home).splitlines()
    assert Path(place.split()[0]).is_relative_to(shipped) and application == "Application"
    listed = "from deployments.ingress import page; print(len(list(page.files())))"
    assert int(run(shipped, "-c", listed, home=home)) == len(list(page.files()))


def pinned() -> dict[str, dict[str, Version]]:
    """Package -> marker (empty: none) -> version, of constraints.txt."""
    pins: dict[str, dict[str, Version]] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            wanted = Requirement(line)
            (pin,) = wanted.specifier
            assert pin.operator == "==", line
            pins.setdefault(canonicalize_name(wanted.name), {})[str(wanted.marker or "")] = Version(pin.version)
    return pins


def test_everything_that_is_asked_for_is_pinned_to_what_is_accepted() -> None:
    (asked,) = re.findall(r"^dependencies = \[.*?^\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M | re.S)
    extras = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[project.optional-dependencies]")[1].split("\n[")[0]
    lines = re.sub(r"#.*", "", f"{asked}\n{extras}")
    wanted = [Requirement(text) for _, text in re.findall(r"""(["'])((?:(?!\1).)+)\1""", lines)]
    assert {"ray", "gfpgan", "torchvision", "pip-audit", "atheris"} <= {one.name for one in wanted}
    pins = pinned()
    for one in wanted:
        versions = pins.get(canonicalize_name(one.name), {})
        assert versions and all(one.specifier.contains(version) for version in versions.values()), f"{one} is pinned to {versions or 'nothing'}"


def test_the_pinned_torchvision_is_the_one_made_for_the_pinned_pytorch() -> None:
    (torch,), (vision,) = (pinned()[name].values() for name in ("torch", "torchvision"))
    assert (vision.major, vision.minor) == (0, torch.minor + 15) and torch.major == 2

"""Which place a published file comes from, how it is known to be the right one, and what lies in the folder afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from configs.models import WeightsConfig
from museserve.errors import WeightsError
from museserve.weights.catalogue import BY_NAME, FILES, WeightFile
from museserve.weights.download import download, remote_file
from museserve.weights.folder import FileState, WeightsFolder
from museserve.weights.transfer import RemoteFile
from tests.museserve.weights.file_server import FileServer, Served, file_server

CONTENT = bytes(range(256)) * 400
SUM = hashlib.sha256(CONTENT).hexdigest()
GITHUB_PATH = "/TencentARC/GFPGAN/releases/download/v1.3.0/GFPGANv1.4.pth"


@pytest.fixture(scope="module")
def running() -> Iterator[FileServer]:
    with file_server() as started:
        yield started


@pytest.fixture
def server(running: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FileServer:
    running.files, running.asked, running.tokens = {}, [], []
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    return running


@pytest.fixture
def folder(server: FileServer, tmp_path: Path) -> WeightsFolder:
    return WeightsFolder(WeightsConfig(uri=str(tmp_path / "models"), mirror=server.url, releases=server.url))


def known(name: str, **changed: Any) -> WeightFile:
    """A published file, with the size and the sum of CONTENT."""
    return replace(BY_NAME[name], **{"bytes": len(CONTENT), "sha256": SUM, "variants": (), "mirrors": (), **changed})


def hub_path(file: WeightFile) -> str:
    repository, _, revision = file.source.removeprefix("hf:").partition("@")
    return f"/{repository}/resolve/{revision or 'main'}/{file.remote}"


def bring(folder: WeightsFolder, file: WeightFile, **options: Any) -> Any:
    return download(folder, file, backoff_s=0.0, **options)


def contents(folder: WeightsFolder) -> list[str]:
    assert folder.local is not None
    return sorted(str(path.relative_to(folder.local)) for path in folder.local.rglob("*") if path.is_file())


def test_a_file_of_the_hub_comes_from_the_mirror_at_its_pinned_revision(server: FileServer, folder: WeightsFolder) -> None:
    file = known("musetalkV15/unet.pth")
    server.files[hub_path(file)] = Served(CONTENT)
    done = bring(folder, file)
    assert (done.name, done.fetched, done.sha256, done.checked) == (file.name, True, SUM, True)
    assert contents(folder) == ["musetalkV15/unet.pth"]
    assert [method for method, *_ in server.asked] == ["GET"] and server.tokens == ["Bearer hf_secret"]
    assert folder.verify(file).state is FileState.VERIFIED


def test_a_release_comes_from_the_mirror_without_a_token(server: FileServer, folder: WeightsFolder) -> None:
    server.files[GITHUB_PATH] = Served(CONTENT)
    assert bring(folder, known("GFPGANv1.4.pth")).checked
    assert server.tokens == [""] and contents(folder) == ["GFPGANv1.4.pth"]


def test_what_is_there_is_not_fetched_unless_it_must_be_again(server: FileServer, folder: WeightsFolder) -> None:
    file = known("GFPGANv1.4.pth")
    server.files[GITHUB_PATH] = Served(CONTENT)
    bring(folder, file)
    assert not bring(folder, file).fetched and len(server.asked) == 1
    assert folder.local is not None
    (folder.local / file.name).write_bytes(bytes(len(CONTENT)))
    assert folder.verify(file).state is FileState.DAMAGED
    assert bring(folder, file, again=True).fetched and folder.verify(file).state is FileState.VERIFIED


def test_another_accepted_name_is_enough(server: FileServer, folder: WeightsFolder) -> None:
    file = BY_NAME["whisper/pytorch_model.bin"]
    assert folder.local is not None
    (folder.local / "whisper").mkdir(parents=True)
    with (folder.local / "whisper/tiny.pt").open("wb") as out:
        out.truncate(75_572_083)
    done = bring(folder, file)
    assert (done.name, done.fetched) == ("whisper/tiny.pt", False) and server.asked == []


def test_a_file_of_the_wrong_size_is_replaced(server: FileServer, folder: WeightsFolder) -> None:
    file = known("GFPGANv1.4.pth")
    server.files[GITHUB_PATH] = Served(CONTENT)
    assert folder.local is not None
    folder.local.mkdir()
    (folder.local / file.name).write_bytes(CONTENT[:100])
    assert folder.status(file).state is FileState.PARTIAL
    assert bring(folder, file).fetched and folder.verify(file).state is FileState.VERIFIED


def test_without_a_published_sum_the_hubs_own_is_compared_and_recorded(server: FileServer, folder: WeightsFolder) -> None:
    file = known("musetalk/pytorch_model.bin", bytes=None, sha256=None)
    path = hub_path(file)
    server.files[path] = Served(CONTENT)
    assert bring(folder, file).checked
    assert folder.local is not None
    assert (folder.local / "musetalk/pytorch_model.bin.sha256").read_text() == f"{SUM}  pytorch_model.bin\n"
    assert folder.verify(file).state is FileState.UNCHANGED
    (folder.local / file.name).write_bytes(CONTENT[::-1])
    assert folder.verify(file).state is FileState.DAMAGED

    server.files[path].tag = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(WeightsError, match="SHA-256 .* is expected"):
        bring(folder, file, again=True)


def test_a_small_file_without_any_sum_is_only_recorded(server: FileServer, folder: WeightsFolder) -> None:
    file = known("musetalk/musetalk.json", bytes=None, sha256=None)
    server.files[hub_path(file)] = Served(CONTENT, tag="a" * 40)
    done = bring(folder, file)
    assert (done.fetched, done.sha256, done.checked) == (True, SUM, False)
    assert folder.verify(file).state is FileState.UNCHANGED


def test_the_next_place_is_tried_when_one_fails(server: FileServer, folder: WeightsFolder) -> None:
    file = known("face-parse-bisent/79999_iter.pth", mirrors=(f"{server.url}/drive?id=1", f"{server.url}/other"))
    server.files["/drive?id=1"] = Served(b"<html>quota exceeded</html>", content_type="text/html")
    server.files["/other"] = Served(CONTENT)
    assert bring(folder, file).checked
    assert [path for _, path, _ in server.asked] == [hub_path(file), "/drive?id=1", "/other"]


def test_an_error_names_every_place_and_the_command(server: FileServer, folder: WeightsFolder) -> None:
    file = known("face-parse-bisent/79999_iter.pth", mirrors=(f"{server.url}/other",))
    with pytest.raises(WeightsError) as raised:
        bring(folder, file)
    message = str(raised.value)
    for part in (hub_path(file), "/other answered 404", "museserve weights download --again face-parse-bisent/79999_iter.pth", "weights.mirror"):
        assert part in message
    assert contents(folder) == []
    assert folder.status(file).state is FileState.MISSING


def test_a_repository_that_is_not_there_is_named(server: FileServer, folder: WeightsFolder) -> None:
    with pytest.raises(WeightsError, match="taesd.*404"):
        bring(folder, known("taesd/diffusion_pytorch_model.safetensors", bytes=None, sha256=None))


def test_a_remote_folder_is_not_downloaded_into(tmp_path: Path) -> None:
    import pyarrow.fs as pafs

    filesystem, _ = pafs.FileSystem.from_uri("mock:///bucket")
    with pytest.raises(WeightsError, match="not on this machine.*--to FOLDER"):
        download(WeightsFolder("bucket/models", filesystem=filesystem), FILES[0])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_published_file_has_a_place_a_licence_and_a_purpose(file: WeightFile) -> None:
    assert file.licence and file.needed_for and file.description and file.url.startswith("https://")
    assert file.sha256 is None or len(file.sha256) == 64
    if file.sha256 is not None:  # others are asked for on the hub
        remote = remote_file(file, file.source, WeightsConfig())
        assert isinstance(remote, RemoteFile) and (remote.url, remote.sha256, remote.bytes) == (file.url, file.sha256, file.bytes)

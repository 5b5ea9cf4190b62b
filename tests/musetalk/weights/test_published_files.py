"""Every published file, generated with the names and shapes of other people's classes, goes through the service's own loader."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'museserve[neural]'")
pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'museserve[neural]'")
pytest.importorskip("transformers", reason="transformers is not installed: pip install 'museserve[neural]'")

from configs.models import WeightsConfig  # noqa: E402
from museserve.errors import MuseserveError, WeightsError  # noqa: E402
from museserve.weights.catalogue import BY_NAME, FILES  # noqa: E402
from museserve.weights.folder import WeightsFolder  # noqa: E402
from musetalk.neural.gfpgan import tensor_shapes  # noqa: E402
from musetalk.neural.inspection import LOADERS, check_file  # noqa: E402
from musetalk.neural.networks import DWPOSE_FILE  # noqa: E402
from tests.musetalk.faces.pose_model import pose_model, save_pose  # noqa: E402
from tests.musetalk.weights.published_files import PUBLISHED, State, flat, full  # noqa: E402

EACH = pytest.mark.parametrize("kind", PUBLISHED)
SHAPES: dict[str, State] = {}


def shapes(kind: str) -> State:
    if kind not in SHAPES:
        SHAPES[kind] = PUBLISHED[kind][1]()
    return dict(SHAPES[kind])


def written(folder: Path, kind: str, state: State) -> str:
    name, _, save = PUBLISHED[kind]
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, state)
    return name


def of_any_size(folder: Path) -> WeightsFolder:
    """Generated files are smaller than the published ones."""
    return WeightsFolder(WeightsConfig(uri=str(folder), unpublished=True))


def found_in(folder: Path, name: str) -> str:
    """What is said against the file; empty when it is in order."""
    try:
        check_file(of_any_size(folder), name)
    except MuseserveError as error:
        return str(error)
    return ""


def used(kind: str, state: State) -> list[str]:
    """The tensors that the service takes: of Whisper the encoder, of TAESD the decoder."""
    prefix = {"whisper": "model.encoder.", "taesd": "decoder."}.get(kind, "")
    return [name for name in state if name.startswith(prefix)]


@EACH
def test_the_published_names_and_shapes_are_taken(tmp_path: Path, kind: str) -> None:
    check_file(of_any_size(tmp_path), written(tmp_path, kind, flat(shapes(kind))))


@EACH
def test_missing_extra_and_misshapen_tensors_are_named(tmp_path: Path, kind: str) -> None:
    state = flat(shapes(kind))
    names = used(kind, state)
    gone, odd = names[-1], next(name for name in names[10:] if state[name].dim() == 4 or (state[name].dim() == 2 and kind == "whisper"))
    extra = {"whisper": "model.encoder.new.weight", "taesd": "decoder.layers.99.weight"}.get(kind, "new.weight")
    del state[gone]
    state[extra] = torch.zeros(3)
    state[odd] = torch.zeros(7, 5)
    message = found_in(tmp_path, written(tmp_path, kind, state))
    cut = {"whisper": "model.encoder.", "taesd": "decoder."}.get(kind, "")
    renamed = gone.replace("proj_attn", "to_out.0").removeprefix(cut)
    for part in (f"1 missing: {renamed}", f"1 not part of this model: {extra.removeprefix(cut)}", f"{odd.removeprefix(cut)} (7, 5) where ("):
        assert part in message, message
    assert "put a whole file of the same network into" in message


def test_the_shapes_of_the_restorer_add_up_to_its_published_size() -> None:
    """285 tensors of 348.6 MB; the rest of the file, 210 bytes a tensor, is what PyTorch writes around them."""
    numbers = 4 * sum(torch.Size(shape).numel() for shape in tensor_shapes().values())
    assert len(tensor_shapes()) == 285 and 0 < (BY_NAME["GFPGANv1.4.pth"].bytes or 0) - numbers < 300 * 285


def test_the_unet_and_the_autoencoder_have_the_published_numbers() -> None:
    assert (len(shapes("unet")), sum(t.numel() for t in shapes("unet").values())) == (686, 849_947_844)
    assert (len(shapes("vae")), sum(t.numel() for t in shapes("vae").values())) == (248, 83_653_863)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("musetalkV15/musetalk.json", '{"in_channels": 4}', "in_channels"),
        ("musetalkV15/musetalk.json", "{", "cannot be read"),
        ("sd-vae/config.json", '{"latent_channels": 16}', "latent_channels"),
        ("whisper/config.json", "[]", "no JSON object"),
    ],
)
def test_descriptions_of_other_networks_are_refused(tmp_path: Path, name: str, content: str, says: str) -> None:
    path = tmp_path / name
    path.parent.mkdir()
    path.write_text(content)
    assert says in found_in(tmp_path, name)


# --- DWPose --------------------------------------------------------------------------------------------------------------


def initializer(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def drop(model: onnx.ModelProto) -> None:
    model.graph.initializer.remove(initializer(model, "head.gau.o.weight"))


def shorten(model: onnx.ModelProto) -> None:
    tensor = initializer(model, "head.gau.o.weight")
    tensor.raw_data = tensor.raw_data[:100]


def misshape(model: onnx.ModelProto) -> None:
    tensor = initializer(model, "backbone.stage1.0.weight")
    tensor.dims[1] -= 1
    tensor.raw_data = tensor.raw_data[: 128 * 63 * 9 * 4]


@pytest.fixture(scope="module")
def pose() -> onnx.ModelProto:
    return pose_model(flat=True)


@pytest.mark.parametrize(
    ("spoil", "says"), [(drop, "head.gau.o.weight"), (shorten, "head.gau.o.weight.*100 bytes"), (misshape, "backbone.stage1.0.weight")]
)
def test_what_is_wrong_in_the_pose_network_is_named(tmp_path: Path, pose: onnx.ModelProto, spoil: Callable[..., None], says: str) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(pose)
    spoil(model)
    save_pose(tmp_path / DWPOSE_FILE, model)
    with pytest.raises(WeightsError, match=f"{says}.*put a whole file of the same network into"):
        check_file(of_any_size(tmp_path), DWPOSE_FILE)


def test_the_pose_network_is_taken_whole_and_a_cut_one_is_refused(tmp_path: Path, pose: onnx.ModelProto) -> None:
    path = save_pose(tmp_path / DWPOSE_FILE, pose)
    assert abs(path.stat().st_size - (BY_NAME[DWPOSE_FILE].bytes or 0)) < 65_536
    assert found_in(tmp_path, DWPOSE_FILE) == ""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "put a whole file of the same network into" in found_in(tmp_path, DWPOSE_FILE)


def test_every_published_file_has_a_reader() -> None:
    assert LOADERS.keys() == {file.name for file in FILES if file.needed_for != ("voices",)}


# --- full size -----------------------------------------------------------------------------------------------------------

LOAD = """
import json, resource, sys, time
import torch
from musetalk.neural import networks as p
from musetalk.neural.inspection import check_file
from museserve.weights.folder import WeightsFolder
from configs.models import WeightsConfig
folder, kind, name = WeightsFolder(WeightsConfig(uri=sys.argv[1], unpublished=True)), sys.argv[2], sys.argv[3]
cpu, half = torch.device("cpu"), torch.float16
loaders = {
    "unet": lambda: p.load_unet(folder, "v15", cpu, half),
    "unet 1.0": lambda: p.load_unet(folder, "v1", cpu, half),
    "vae": lambda: p.load_vae(folder, cpu, half),
    "whisper": lambda: p.read_whisper(folder),
    "parser": lambda: p.load_parser(folder),
    "taesd": lambda: p.load_taesd(folder, cpu, half),
}
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before, began = peak(), time.perf_counter()
loaders.get(kind, lambda: check_file(folder, name))()
print(json.dumps({"kind": kind, "seconds": round(time.perf_counter() - began, 2), "peak": peak() - before}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*PUBLISHED, "pose"])
def test_the_full_size_loads_in_bounded_memory(tmp_path: Path, kind: str) -> None:
    """At most the file in memory (its pages, or its numbers) and what becomes of it: half precision or the rearranged weights, and some room."""
    if shutil.disk_usage(tmp_path).free < 6 * 2**30:
        pytest.skip("less than 6 GiB are free for temporary files")
    if kind == "pose":
        name, path = DWPOSE_FILE, save_pose(tmp_path / DWPOSE_FILE, pose_model())
    else:
        name = written(tmp_path, kind, full(shapes(kind)))
        path = tmp_path / name
    try:
        size = path.stat().st_size
        done = subprocess.run([sys.executable, "-c", LOAD, str(tmp_path), kind, name], capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr[-2_000:]
        measured = json.loads(done.stdout)
        print(f"{kind}: {size / 1e6:,.0f} MB in {measured['seconds']} s, peak {measured['peak'] / 1e6:,.0f} MB")
        assert measured["peak"] < 3 * size + 400 * 2**20
    finally:
        path.unlink()

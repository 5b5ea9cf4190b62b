"""Restoration around a stand-in for the network: where things land, how much shows, how steady it is; and GFPGAN itself where it is installed."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402

from benchmarks.generated_models import write_models  # noqa: E402
from configs.models import AppConfig, WeightsConfig, parse_config  # noqa: E402
from museserve.errors import EngineUnavailableError, WeightsError  # noqa: E402
from museserve.weights.folder import WeightsFolder  # noqa: E402
from musetalk.avatars.store import AvatarStore  # noqa: E402
from musetalk.factory import load_engine  # noqa: E402
from musetalk.neural.restore import ALIKE, LAYOUT, Restorer, architecture, layouts, of_crop, steadied  # noqa: E402
from musetalk.neural.yuv import to_i420  # noqa: E402
from tests.musetalk.pictures import woman  # noqa: E402

CPU = torch.device("cpu")
HAS_GFPGAN = importlib.util.find_spec("gfpgan") is not None


def faces(n: int = 8) -> Any:
    """The same face n times, RGB (n, 3, 256, 256), with a mouth that moves."""
    rgb = cv2.resize(woman()[300:720, 300:720], (256, 256), interpolation=cv2.INTER_AREA)
    out = np.repeat(rgb[None], n, 0).copy()
    for i in range(n):
        cv2.ellipse(out[i], (128, 205), (30, 2 + 2 * (i % 5)), 0, 0, 360, (60, 20, 20), -1)
    return torch.from_numpy(out).permute(0, 3, 1, 2).float()


def layout(n: int, scale: float = 1.4, turn: float = 0.1) -> np.ndarray:
    matrix = cv2.getRotationMatrix2D((128, 128), np.degrees(turn), scale)
    matrix[:, 2] += 128
    return np.repeat(matrix[None].astype(np.float32), n, 0)


def planar(rgb: Any) -> np.ndarray:
    return to_i420(rgb.round()).numpy()


def restorer(network: Any, **options: Any) -> Restorer:
    return Restorer(network, CPU, **options)


def test_a_network_that_adds_nothing_changes_nothing() -> None:
    crops = planar(faces())
    restored = restorer(lambda x: x).restore(crops, layout(8))
    assert restored.shape == (8, 384, 256) and np.percentile(np.abs(restored.astype(int) - crops), 99.5) <= 3  # chroma is halved once more
    assert np.abs(restored[:, :256].astype(int) - crops[:, :256]).mean() < 0.8


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_what_is_added_shows_by_its_strength_and_fades_at_the_edge(strength: float) -> None:
    crops = planar(faces(3))
    restored = restorer(lambda x: x + 0.2, strength=strength).restore(crops, layout(3))
    gained = restored[:, :256].astype(float) - crops[:, :256]
    assert gained[:, 100:156, 100:156].mean() == pytest.approx(0.2 * 127.5 * strength * 219 / 255, abs=1.5)
    assert abs(gained[:, :1].mean()) < 0.2 * 127.5 * strength * 0.2 + 1


def test_it_lands_where_the_network_put_it() -> None:
    """A spot that the network paints at its own nose comes back at the face's nose."""
    turns = layout(1)
    nose = cv2.invertAffineTransform(turns[0]) @ np.append(LAYOUT[2], 1)

    def paint(x: Any) -> Any:
        x = x.clone()
        a, b = LAYOUT[2].astype(int)
        x[:, :, b - 5 : b + 6, a - 5 : a + 6] += 1.0
        return x

    added = restorer(paint).added(faces(1) * 0 + 100, turns)[0].mean(0)
    at = np.array(np.unravel_index(int(added.argmax()), added.shape))[::-1]
    total = float(added.sum())
    middle = [float((added.sum(axis) * torch.arange(256)).sum()) / total for axis in (0, 1)]
    assert np.abs(np.array(middle) - nose).max() < 1.0 and np.abs(at - nose).max() < 6


def test_layouts_bring_faces_onto_the_published_points_and_do_not_shake() -> None:
    rng = np.random.default_rng(0)
    matrix = cv2.invertAffineTransform(layout(1)[0])
    points = LAYOUT @ matrix[:, :2].T + matrix[:, 2]
    seen = points[None] + rng.normal(0, 1.0, (40, 1, 2)) + rng.normal(0, 0.6, (40, 5, 2))
    laid = layouts(seen.astype(np.float32), loop=False)
    shown = np.einsum("nij,kj->nki", laid[:, :, :2], points) + laid[:, None, :, 2]
    assert np.abs(shown - LAYOUT).mean() < 1.5
    assert np.abs(np.diff(shown, n=2, axis=0)).mean() < 0.1


def test_a_layout_of_the_frame_as_one_of_the_crop() -> None:
    box = (40, 20, 168, 148)  # 128 pixels: twice enlarged
    frame = layout(1)[0]
    crop = of_crop(frame, box)
    middle = np.array([100.0, 80.0])
    in_crop = (middle + 0.5 - box[:2]) * 2 - 0.5
    assert crop @ np.append(in_crop, 1) == pytest.approx(frame @ np.append(middle, 1), abs=1e-3)


def flicker(added: Any, faces: Any) -> float:
    """How much `added` shakes where the faces stand still: root mean square of its second differences over time, grey levels."""
    grey = F.avg_pool2d(faces.mean(1, keepdim=True), 5, 1, 2, count_include_pad=False)
    still = ((grey[1:] - grey[:-1]).abs() < ALIKE / 2).float()
    both = still[1:] * still[:-1]
    second = added[2:] - 2 * added[1:-1] + added[:-2]
    return float((second.square().mean(1, keepdim=True) * both).sum().div(both.sum().clamp(min=1)).sqrt())


def test_flicker_is_damped_where_the_face_stands_still_and_not_where_it_moves() -> None:
    rng = torch.Generator().manual_seed(0)
    still = faces(16)
    detail = torch.randn(1, 3, 256, 256, generator=rng) * 6
    added = detail + torch.randn(16, 3, 256, 256, generator=rng) * 6
    calm = steadied(added, still)
    assert flicker(calm, still) < 0.35 * flicker(added, still)
    assert float((calm.mean(0) - detail[0]).abs().mean()) < float((added[0] - detail[0]).abs().mean())
    moving = still * 0 + 60.0 * (torch.arange(16) % 4)[:, None, None, None]
    assert torch.allclose(steadied(added, moving), added, atol=5e-3)
    assert torch.equal(steadied(added[:1], still[:1]), added[:1])


@pytest.mark.skipif(HAS_GFPGAN, reason="gfpgan is installed")
def test_without_the_package_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailableError, match=r"pip install 'museserve\[restore\]'"):
        Restorer.load(WeightsFolder(str(tmp_path)), CPU)


@pytest.fixture
def wrong_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A gfpgan that can be found, and a torchvision that was built for another PyTorch: it registers what its library lacks."""
    said = "operator torchvision::nms does not exist"
    for package, code in {"gfpgan": "", "torchvision": f"raise RuntimeError({said!r})"}.items():
        (tmp_path / "site" / package).mkdir(parents=True)
        (tmp_path / "site" / package / "__init__.py").write_text(code)
        monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.syspath_prepend(tmp_path / "site")
    return said


def test_a_torchvision_of_another_pytorch_is_an_error_that_names_both(wrong_torchvision: str) -> None:
    with pytest.raises(EngineUnavailableError, match=f"{wrong_torchvision}.*torchvision .* and PyTorch {re.escape(torch.__version__)} have to be"):
        architecture()


def test_auto_then_falls_back_and_says_why(wrong_torchvision: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_models(tmp_path / "models")
    (tmp_path / "models/GFPGANv1.4.pth").write_bytes(b"not read")

    def config(engine: str) -> AppConfig:
        musetalk = {"device": "cpu", "threads": 1, "batch_sizes": [1], "restore": 0.5}
        weights = {"uri": str(tmp_path / "models"), "unpublished": True}
        return parse_config({"weights": weights, "lipsync": {"engine": engine, "musetalk": musetalk}})

    store = AvatarStore(str(tmp_path / "avatars"))
    engine = load_engine(config("auto"), store)
    assert engine.info.name == "animator" and wrong_torchvision in engine.info.reason
    assert any(wrong_torchvision in record.message and record.levelname == "WARNING" for record in caplog.records)
    with pytest.raises(EngineUnavailableError, match=wrong_torchvision):
        load_engine(config("musetalk"), store)


@pytest.mark.skipif(not HAS_GFPGAN, reason="the package gfpgan is not installed (pip install 'museserve[restore]')")
@pytest.mark.filterwarnings("default")  # of what gfpgan imports
@pytest.mark.slow
def test_gfpgan_with_generated_weights_of_its_full_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save({"params_ema": architecture().state_dict()}, tmp_path / "GFPGANv1.4.pth")
    weights = WeightsFolder(WeightsConfig(uri=str(tmp_path), unpublished=True))
    made = Restorer.load(weights, CPU)
    crops = planar(faces(2))
    once, again = (made.restore(crops, layout(2)) for _ in range(2))
    assert np.array_equal(once, again)  # its noise is held still
    assert (once != crops).any()
    state = torch.load(tmp_path / "GFPGANv1.4.pth")["params_ema"]
    state.pop(next(iter(state)))
    torch.save({"params_ema": state}, tmp_path / "GFPGANv1.4.pth")
    with pytest.raises(WeightsError, match="1 missing"):
        Restorer.load(weights, CPU)

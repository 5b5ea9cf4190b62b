"""Sharper faces by GFPGAN v1.4, optional: a drawn face is laid out as the network knows faces, restored, and what it added is put back, steadied.

What GFPGAN adds differs from frame to frame, also where the face does not move, and flickers. So its own noise is held still, faces are laid out
along a smoothed path, and what it adds is averaged over neighbouring frames wherever the drawn face is the same in them.

Source: TencentARC/GFPGAN (Apache-2.0) for the network, which is used as it is published; facexlib (MIT) for the layout.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any, cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from museserve.errors import EngineUnavailableError
from museserve.messages import ByteArray, FloatArray
from museserve.weights.folder import WeightsFolder
from musetalk.faces.box import smooth_path
from musetalk.neural.networks import RESTORER_FILE, read_file
from musetalk.neural.yuv import to_i420
from musetalk.weights.checkpoint import load_into

SIDE = 512
# Both eyes, the nose's tip, both corners of the mouth, in the 512 pixels that GFPGAN was trained on.
LAYOUT = np.array([[192.98138, 239.94708], [318.90277, 240.1936], [256.63416, 314.01935], [201.26117, 371.41043], [313.08905, 371.15118]])
NEIGHBOURS = 3  # frames before and after that what was added is averaged with
REACH = 1.5  # standard deviation of their weights, frames
ALIKE = 6.0  # grey levels by which neighbouring drawn faces may differ and still count for half
EDGE = 12  # pixels of the face over which what was added fades out at its border
BATCH = 8

Network = Callable[[Tensor], Tensor]


class Restorer:
    """Thread-safe. Holds no state of an utterance: frames of one call are neighbours, and a call's first and last frames have fewer of them.

    Args:
        network: RGB (n, 3, 512, 512) in -1..1 to the same, restored.
        strength: part of what the network adds that shows, 0..1.
    """

    def __init__(self, network: Network, device: torch.device, *, strength: float = 0.5) -> None:
        self._network, self._device, self._strength = network, device, strength
        ramp = torch.clamp(torch.minimum(torch.arange(256) + 1, torch.arange(256).flip(0) + 1) / EDGE, max=1.0)
        self._fade = (ramp[:, None] * ramp[None]).to(device)

    @classmethod
    def load(cls, weights: WeightsFolder, device: torch.device, *, strength: float = 0.5) -> Restorer:
        """GFPGAN v1.4, in float32, as it is published and run.

        Raises:
            EngineUnavailableError: the package `gfpgan` is not installed or cannot be imported.
            WeightsError: its file is missing, damaged or of another network.
        """
        model = architecture()
        load_into(model, read_file(weights, RESTORER_FILE), file=RESTORER_FILE, mend=weights.repair_hint(RESTORER_FILE))
        model.eval().to(device=device)
        return cls(lambda x: cast(Tensor, model(x, return_rgb=False, randomize_noise=False)[0]), device, strength=strength)

    @torch.inference_mode()
    def restore(self, crops: ByteArray, layout: FloatArray) -> ByteArray:
        """Consecutive faces of one utterance, sharper.

        Args:
            crops: I420 uint8 (n, 384, 256). layout: float32 (n, 2, 3), from pixels of each face to those of the network (`layouts`).
        Returns:
            I420 uint8 (n, 384, 256).
        """
        rgb = np.stack([cv2.cvtColor(crop, cv2.COLOR_YUV2RGB_I420) for crop in crops])
        faces = torch.from_numpy(rgb).to(self._device).permute(0, 3, 1, 2).float()
        added = steadied(self.added(faces, layout), faces)
        return np.asarray(to_i420((faces + self._strength * added).clamp(0, 255).round()).cpu().numpy(), np.uint8)

    @torch.inference_mode()
    def added(self, faces: Tensor, layout: FloatArray) -> Tensor:
        """What the network adds to each face: float32 (n, 3, 256, 256), grey levels. faces: RGB (n, 3, 256, 256) in 0..255."""
        parts = []
        for at in range(0, len(faces), BATCH):
            part, matrices = faces[at : at + BATCH], layout[at : at + BATCH]
            laid = _warped(part / 127.5 - 1, matrices, SIDE)
            restored = self._network(laid)
            back = np.stack([cv2.invertAffineTransform(matrix) for matrix in matrices])
            # Against the face that went the same way there and back, so that blur of the way is not taken for something that was added.
            parts.append(_warped(restored.clamp(-1, 1) - laid, back, faces.shape[-1], zeros=True) * 127.5 * self._fade)
        return torch.cat(parts)


def layouts(points: FloatArray, *, loop: bool) -> FloatArray:
    """From pixels of the frame to the network's, for each frame of a background, along a smoothed path.

    Args:
        points: (n, 5, 2), `drawn_classes.five_points`. loop: the frame after the last is the first; otherwise they are played forth and back.
    Returns:
        float32 (n, 2, 3): turn, scale, shift; shapes are kept.
    """
    turns = np.stack([_similarity(five) for five in points])
    a, b, x, y = smooth_path(turns, loop=loop).T
    return np.stack([np.stack([a, -b, x], -1), np.stack([b, a, y], -1)], 1).astype(np.float32)


def of_crop(layout: FloatArray, box: tuple[int, int, int, int], side: int = 256) -> FloatArray:
    """A layout from pixels of the frame, float32 (2, 3), as one from pixels of the face that is cut at `box` and resized to a square."""
    x0, y0, x1, y1 = box
    across, down = (x1 - x0) / side, (y1 - y0) / side
    to_frame = np.array([[across, 0, x0 + across / 2 - 0.5], [0, down, y0 + down / 2 - 0.5], [0, 0, 1]])
    return np.asarray(layout @ to_frame, np.float32)


def steadied(added: Tensor, faces: Tensor) -> Tensor:
    """`added` averaged over time where the faces are alike, both (n, 3, h, w) in grey levels."""
    n = len(faces)
    grey = F.avg_pool2d(faces.mean(1, keepdim=True), 5, 1, 2, count_include_pad=False)
    total, weights = added.clone(), torch.ones_like(grey)
    for step in range(1, min(NEIGHBOURS, n - 1) + 1):
        near = float(np.exp(-0.5 * (step / REACH) ** 2))
        alike = near * torch.exp(-(((grey[step:] - grey[:-step]) / ALIKE) ** 2) * float(np.log(2)))
        total[step:] += alike * added[:-step]
        total[:-step] += alike * added[step:]
        weights[step:] += alike
        weights[:-step] += alike
    return total / weights


def architecture() -> nn.Module:
    """GFPGAN's network as v1.4 has it, with weights by chance. Raises EngineUnavailableError."""
    if importlib.util.find_spec("gfpgan") is None:
        raise EngineUnavailableError("lipsync.musetalk.restore needs the package gfpgan, which is not installed (pip install 'museserve[restore]')")
    try:
        import torchvision.transforms.functional as moved  # type: ignore[import-not-found,unused-ignore]

        # gfpgan 1.3.8's own dependency imports this module by the name that it had before torchvision 0.17.
        sys.modules.setdefault("torchvision.transforms.functional_tensor", moved)
        from gfpgan.archs.gfpganv1_clean_arch import GFPGANv1Clean  # type: ignore[import-not-found,unused-ignore]
    except Exception as error:  # a torchvision that was built for another PyTorch raises a RuntimeError, an OSError or an ImportError
        said = next((line for line in str(error).splitlines() if line.strip()), "")
        said = re.sub(r"(/[^/\s:]+)+/", "", said)  # callers of the API may read it, and need not know where things lie
        raise EngineUnavailableError(
            f"lipsync.musetalk.restore: the package gfpgan cannot be imported ({type(error).__name__}: {said}). "
            f"torchvision {_version('torchvision')} and PyTorch {torch.__version__} have to be releases that belong together, "
            "and built for the same devices: install those that constraints.txt names from one index"
        ) from error

    published: dict[str, Any] = {"num_style_feat": 512, "channel_multiplier": 2, "num_mlp": 8, "narrow": 1}
    flags = {"decoder_load_path": None, "fix_decoder": False, "input_is_latent": True, "different_w": True, "sft_half": True}
    return cast(nn.Module, GFPGANv1Clean(out_size=SIDE, **published, **flags))


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _similarity(points: FloatArray) -> NDArray[np.float64]:
    """a, b, x, y of the turn and scale (a, -b; b, a) and shift that bring five points onto the layout, by least squares."""
    px, py = np.asarray(points, np.float64).T
    ones, zeros = np.ones(5), np.zeros(5)
    rows = np.concatenate([np.stack([px, -py, ones, zeros], 1), np.stack([py, px, zeros, ones], 1)])
    return np.asarray(np.linalg.lstsq(rows, LAYOUT.T.reshape(-1), rcond=None)[0])


def _warped(pictures: Tensor, matrices: Any, side: int, zeros: bool = False) -> Tensor:
    """(n, c, h, h) through maps (n, 2, 3) to (n, c, side, side); beyond the border the picture's edge goes on, or there is 0."""
    h = pictures.shape[-1]
    back = np.stack([cv2.invertAffineTransform(np.asarray(matrix, np.float64)) for matrix in matrices])
    # From pixel indices to grid_sample's -1..1 across whole pictures, on both sides.
    to_index = np.array([[side / 2, 0, side / 2 - 0.5], [0, side / 2, side / 2 - 0.5], [0, 0, 1]])
    scaled = back @ to_index
    scaled[:, :, 2] += 0.5
    scaled *= 2 / h
    scaled[:, :, 2] -= 1
    theta = torch.from_numpy(scaled.astype(np.float32)).to(pictures.device)
    grid = F.affine_grid(theta, [len(pictures), pictures.shape[1], side, side], align_corners=False)
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="zeros" if zeros else "border", align_corners=False)

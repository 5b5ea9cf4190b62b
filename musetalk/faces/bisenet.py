"""Which pixel is skin, lip, nose: the BiSeNet face parser, and the regions that blending takes from its classes.

Module names are those of the published weights (`face-parse-bisent/79999_iter.pth`), so that a state dict loads as it is. Batch normalisation
is folded into the convolutions afterwards.

Source: zllrunning/face-parsing.PyTorch (MIT) and MuseTalk repository at 0a89dec, musetalk/utils/face_parsing (MIT); written anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from museserve.messages import ByteArray

SIDE = 512
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
N_CLASSES = 19
SKIN, NOSE, MOUTH, UPPER_LIP, LOWER_LIP, NECK = 1, 10, 11, 12, 13, 14
LIPS = (MOUTH, UPPER_LIP, LOWER_LIP)
BATCH = 8

Mode = Literal["raw", "jaw", "neck"]


class ConvBNReLU(nn.Module):
    """(n, c_in, h, w) -> (n, c_out, h / stride, w / stride)."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class BasicBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or c_in != c_out:
            self.downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        out: Tensor = F.relu(residual + (x if self.downsample is None else self.downsample(x)))
        return out


class ResNet18(nn.Module):
    """(n, 3, h, w) -> features at 1/8 (128 channels), 1/16 (256) and 1/32 (512)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(BasicBlock(64, 64, 1), BasicBlock(64, 64, 1))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128, 1))
        self.layer3 = nn.Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256, 1))
        self.layer4 = nn.Sequential(BasicBlock(256, 512, 2), BasicBlock(512, 512, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.layer1(F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1))
        eighth = self.layer2(x)
        sixteenth = self.layer3(eighth)
        return eighth, sixteenth, self.layer4(sixteenth)


class AttentionRefinement(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = ConvBNReLU(c_in, c_out)
        self.conv_atten = nn.Conv2d(c_out, c_out, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.conv(x)
        attention: Tensor = torch.sigmoid(self.bn_atten(self.conv_atten(features.mean((2, 3), keepdim=True))))
        return features * attention


class ContextPath(nn.Module):
    """(n, 3, h, w) -> 1/8 from the trunk, 1/8 and 1/16 with the context of the whole picture, 128 channels each."""

    def __init__(self) -> None:
        super().__init__()
        self.resnet = ResNet18()
        self.arm16 = AttentionRefinement(256, 128)
        self.arm32 = AttentionRefinement(512, 128)
        self.conv_head32 = ConvBNReLU(128, 128)
        self.conv_head16 = ConvBNReLU(128, 128)
        self.conv_avg = ConvBNReLU(512, 128, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        eighth, sixteenth, last = self.resnet(x)
        average = self.conv_avg(last.mean((2, 3), keepdim=True))
        up32 = F.interpolate(self.arm32(last) + average, size=sixteenth.shape[2:], mode="nearest")
        up16 = F.interpolate(self.arm16(sixteenth) + self.conv_head32(up32), size=eighth.shape[2:], mode="nearest")
        return eighth, self.conv_head16(up16)


class FeatureFusion(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convblk = ConvBNReLU(256, 256, 1)
        self.conv1 = nn.Conv2d(256, 64, 1, bias=False)
        self.conv2 = nn.Conv2d(64, 256, 1, bias=False)

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        features: Tensor = self.convblk(torch.cat([spatial, context], 1))
        attention = torch.sigmoid(self.conv2(F.relu(self.conv1(features.mean((2, 3), keepdim=True)))))
        return features * attention + features


class Head(nn.Module):
    def __init__(self, c_in: int, c_mid: int) -> None:
        super().__init__()
        self.conv = ConvBNReLU(c_in, c_mid)
        self.conv_out = nn.Conv2d(c_mid, N_CLASSES, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv_out(self.conv(x))
        return out


class BiSeNet(nn.Module):
    """RGB float32 (n, 3, h, w), normalised by MEAN and STD, h and w multiples of 32 -> scores of the classes (n, 19, h, w).

    `conv_out16` and `conv_out32` were only trained with; they are here so that every published tensor has its place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cp = ContextPath()
        self.ffm = FeatureFusion()
        self.conv_out = Head(256, 256)
        self.conv_out16 = Head(128, 64)
        self.conv_out32 = Head(128, 64)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.conv_out(self.ffm(*self.cp(x)))
        return F.interpolate(scores, size=x.shape[2:], mode="bilinear", align_corners=True)


def folded(model: nn.Module) -> nn.Module:
    """`model` in evaluation mode with each batch normalisation folded into the convolution before it; it cannot be trained or loaded into again."""
    pairs = {"conv": "bn", "conv1": "bn1", "conv2": "bn2", "conv_atten": "bn_atten", "0": "1"}
    for part in model.eval().modules():
        for conv, norm in pairs.items():
            first, second = part._modules.get(conv), part._modules.get(norm)
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(part, conv, fuse_conv_bn_eval(first, second))
                setattr(part, norm, nn.Identity())
    return model


class FaceParser:
    """Classes of the pixels of face crops. `model` has its weights; it is folded here. Thread-safe."""

    def __init__(self, model: BiSeNet, device: str = "cpu") -> None:
        self._model = folded(model).to(device)
        self._mean = torch.tensor(MEAN, device=device)[:, None, None]
        self._std = torch.tensor(STD, device=device)[:, None, None]
        self._device = device

    @torch.inference_mode()
    def classes(self, crops: Sequence[ByteArray]) -> list[ByteArray]:
        """RGB uint8 (h, w, 3) of any sizes -> class numbers uint8 (512, 512), one array a crop."""
        found: list[ByteArray] = []
        for at in range(0, len(crops), BATCH):
            small = np.stack([at_network_size(crop) for crop in crops[at : at + BATCH]])
            pixels = torch.from_numpy(small).to(self._device).permute(0, 3, 1, 2).float() / 255
            scores: Tensor = self._model((pixels - self._mean) / self._std)
            found.extend(scores.argmax(1).to(torch.uint8).cpu().numpy())
        return found


def at_network_size(rgb: ByteArray) -> ByteArray:
    """An RGB picture as `FaceParser` looks at it, uint8 (512, 512, 3); one that is so already stays as it is."""
    resized: Any = Image.fromarray(rgb).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.uint8)


def region(classes: ByteArray, mode: Mode = "jaw", cheeks: tuple[int, int] = (90, 90)) -> ByteArray:
    """The pixels that are blended, 255 inside and 0 outside.

    Args:
        classes: uint8 (512, 512), the parser's. cheeks: half width of the part that keeps its full height, left and right of the middle, in pixels
            of the 512; beyond it the face's border stays as it was filmed. Only "jaw" has it.
    """
    if mode != "jaw":
        wanted = (SKIN, *LIPS) if mode == "raw" else (SKIN, *LIPS, NECK)
        return np.where(np.isin(classes, wanted), np.uint8(255), np.uint8(0))
    skin = np.where(classes == SKIN, np.uint8(255), np.uint8(0))
    grown = np.asarray(cv2.dilate(skin, cone_kernel()), np.uint8)
    narrow = cv2.erode(grown, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (35, 3)), iterations=2)
    left, right = cheeks
    columns = np.arange(SIDE)
    at_cheeks = (columns <= SIDE // 2 - left) | (columns >= SIDE // 2 + right)
    face = np.where(at_cheeks[None], narrow, grown)
    face[classes == NOSE] = 0
    face[np.isin(classes, LIPS)] = 255
    return np.asarray(face, np.uint8)


def cone_kernel() -> ByteArray:
    """uint8 (33, 33) with 373 ones: what it dilates grows 16 pixels up, 10 to each side, and 6 down to a tip."""
    kernel = np.zeros((33, 33), np.uint8)
    for row in range(10, 33):
        half = min(row - 10, 10)
        kernel[row, 16 - half : 17 + half] = 1
    return kernel

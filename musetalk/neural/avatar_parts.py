"""MuseTalk's share of an avatar: the face box of each frame, its mask and its latents."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from configs.models import AppConfig, MuseTalkConfig
from museserve.errors import EngineError
from museserve.messages import Box, ByteArray, FloatArray
from museserve.runtime import cpu
from museserve.runtime.versions import stamp
from museserve.weights.folder import WeightsFolder
from musetalk.avatars.format import EngineParts, content_version
from musetalk.avatars.progress import Steps
from musetalk.faces.bisenet import at_network_size
from musetalk.faces.box import BoxRule
from musetalk.faces.box_track import BoxTrack, track_boxes
from musetalk.faces.drawn_classes import drawn_classes, five_points
from musetalk.faces.dwpose import DWPose
from musetalk.faces.mask import BlendRule, FaceBox, context_crop, face_mask, in_common_box
from musetalk.faces.mediapipe import mesh_of, shared_detector
from musetalk.faces.tracking import track_face
from musetalk.neural import device as devices
from musetalk.neural.networks import DWPOSE_FILE, PARSER_FILE, VAE_FILE, load_parser, load_vae
from musetalk.neural.restore import layouts, of_crop
from musetalk.neural.vae import FACE_SIDE

logger = logging.getLogger(__name__)

PREPARATION = 2  # of what this file does: raise it with any change to the boxes, masks or latents that it makes
KEPT_LIBRARIES = ("mediapipe", "onnxruntime", "opencv-python", "torch")  # what found the landmarks, drew the masks and encoded the faces
BATCH = 8
FINGERPRINT_BYTES = 2**20


def neural_version(config: AppConfig) -> str:
    """Changes with whatever boxes, masks and latents are made by: this code's number, the rules, and the networks' files. Loads none of them.

    Raises:
        WeightsError: the autoencoder's file is missing or cut short.
    """
    weights = WeightsFolder(config.weights)
    files = [VAE_FILE, *filter(weights.holds, (DWPOSE_FILE, PARSER_FILE))]
    parts = [f"{name} {_fingerprint(weights.path(name))}" for name in files]
    return content_version(stamp(PREPARATION, *KEPT_LIBRARIES), box_rule(config.lipsync.musetalk), blend_rule(config.lipsync.musetalk), *parts)


def box_rule(config: MuseTalkConfig) -> BoxRule:
    if config.version == "v15":
        return BoxRule("v1.5", config.blend.margin)
    return BoxRule("v1.0", shift=config.blend.shift)


def blend_rule(config: MuseTalkConfig) -> BlendRule:
    blend = config.blend
    mode = blend.mode if blend.mode != "auto" else "jaw" if config.version == "v15" else "raw"
    return BlendRule(mode, upper=blend.upper_boundary, blur=blend.blur, cheeks=(blend.left_cheek, blend.right_cheek))


class FaceNetworks:
    """The autoencoder's encoder, the face parser and DWPose, ready. Thread-safe. Holds no avatar.

    gpu_share: part of a card that this process was given, and the most of its memory it takes.

    Attributes:
        notes: what stands in for a file that is missing; told in each avatar's report.

    Raises, when made:
        EngineUnavailableError, WeightsError: no such device; a file is missing, damaged or of another network.
    """

    def __init__(self, config: AppConfig, *, gpu_share: float | None = None) -> None:
        options, weights = config.lipsync.musetalk, WeightsFolder(config.weights)
        self._device = devices.choose(options)
        devices.set_up(self._device, options.threads, gpu_share)
        self.version = neural_version(config)
        self._box_rule, self._blend_rule = box_rule(options), blend_rule(options)
        # In float32 also on a card: it is done once, and what it rounds away shows in every frame.
        self._vae = load_vae(weights, self._device, torch.float32)
        del self._vae.decoder, self._vae.post_quant_conv
        cuda = self._device.type == "cuda"
        # Without CUDA onnxruntime takes a third of a second a frame of one core; beside a card most of the cores are free for it.
        self._threads = max(options.threads, cpu.usable_cores() * 3 // 4) if cuda else options.threads
        self._dwpose = DWPose(weights.path(DWPOSE_FILE), cuda=cuda, threads=self._threads) if weights.holds(DWPOSE_FILE) else None
        self._parser = load_parser(weights, str(self._device)) if weights.holds(PARSER_FILE) else None
        notes = (
            (self._dwpose, f"{DWPOSE_FILE} is missing: landmarks are MediaPipe's"),
            (self._parser, f"{PARSER_FILE} is missing: masks are drawn from landmarks, with straight edges"),
        )
        self.notes = tuple(text for network, text in notes if network is None)
        logger.info("face networks are ready on %s: %s", devices.describe(self._device), "; ".join(self.notes) or "all")

    def prepare(
        self,
        frames: ByteArray,
        mesh: FloatArray | None,
        *,
        loop: bool,
        steps: Steps,
        begin: float = 0.0,
        end: float = 1.0,
    ) -> tuple[EngineParts, dict[str, Any]]:
        """Boxes, masks and latents of each frame; see `avatars.assembly.PartsEncoder`."""
        size, n = frames.shape[2], len(frames)
        at = [begin + (end - begin) * part for part in (0.0, 0.3, 0.6, 1.0)]
        with steps("find the face boxes", at[0], at[1]) as tick:
            if mesh is None:
                mesh = find_mesh(frames, lambda i: tick(i / n / 2))
            rgb, rule = map(to_rgb, frames), self._box_rule
            track = track_boxes(rgb, mesh, size, rule, loop=loop, dwpose=self._dwpose, tick=lambda i: tick(i / n))
        with steps("parse the face", at[1], at[2]) as tick:
            masks = self._masks(frames, track, tick)
            mask, box = in_common_box(masks, track.boxes)
        with steps("encode the face", at[2], at[3]) as tick:
            latents = self._latents(frames, track.boxes, tick)
        laid = layouts(np.stack([five_points(points) for points in track.points]).astype(np.float32), loop=loop)
        arrays: dict[str, NDArray[Any]] = {
            "latents": latents,
            "latent_index": np.arange(n, dtype=np.int32),
            "layout": np.stack([of_crop(layout, face) for layout, face in zip(laid, track.boxes, strict=True)]),
        }
        parts = EngineParts(self.version, box, arrays, mask, np.array(track.boxes, np.int32))
        return parts, self._report(track, box)

    def _report(self, track: BoxTrack, box: Box) -> dict[str, Any]:
        sides = np.array([(x1 - x0, y1 - y0) for x0, y0, x1, y1 in track.boxes])
        notes = list(self.notes)
        if self._dwpose is not None and track.landmarks != "DWPose":
            notes.append("DWPose found another person, or none, in most frames: landmarks are MediaPipe's")
        return {
            "landmarks": track.landmarks,
            "mask": "BiSeNet" if self._parser is not None else "drawn from landmarks",
            "face_px": [int(side) for side in np.median(sides, axis=0)],
            "box": [box.x, box.y, box.w, box.h],
            "bridged_frames": track.bridged,
            "jitter_px": {"published_rule": track.jitter_before, "smoothed": track.jitter_after},
            "notes": notes,
        }

    def _masks(self, frames: ByteArray, track: BoxTrack, tick: Callable[[float], None]) -> list[ByteArray]:
        rule, n = self._blend_rule, len(frames)

        def crop(i: int) -> ByteArray:
            return at_network_size(context_crop(to_rgb(frames[i]), track.boxes[i], rule.expand))

        def mask(parsed: tuple[ByteArray, FaceBox]) -> ByteArray:
            return face_mask(*parsed, rule)

        if self._parser is not None:
            classes = self._in_batches(self._parser.classes, cpu.parallel_map(crop, range(n), self._threads))
        else:
            classes = (drawn_classes(points, box, rule.expand) for points, box in zip(track.points, track.boxes, strict=True))
        masks: list[ByteArray] = []
        for found in cpu.parallel_map(mask, zip(classes, track.boxes, strict=True), self._threads):
            masks.append(found)
            tick(len(masks) / n)
        return masks

    def _latents(self, frames: ByteArray, boxes: list[FaceBox], tick: Callable[[float], None]) -> NDArray[np.float16]:
        n = len(boxes)
        faces = cpu.parallel_map(lambda i: face_crop(to_rgb(frames[i]), boxes[i]), range(n), self._threads)
        latents: list[Any] = []
        for latent in self._in_batches(self._encode, faces):
            latents.append(latent)
            tick(len(latents) / n)
        return np.stack(latents)

    @torch.inference_mode()
    def _encode(self, faces: list[ByteArray]) -> list[NDArray[np.float16]]:
        latents = self._vae.encode_faces(torch.from_numpy(np.stack(faces)).to(self._device))
        return list(latents.half().cpu().numpy())

    def _in_batches(self, network: Callable[[list[ByteArray]], list[Any]], pictures: Iterator[ByteArray]) -> Iterator[Any]:
        while batch := list(islice(pictures, BATCH)):
            yield from self._within_memory(network, batch)

    def _within_memory(self, network: Callable[[list[ByteArray]], list[Any]], pictures: list[ByteArray]) -> list[Any]:
        """What a network makes of pictures; in halves where memory does not hold them all."""
        try:
            return network(pictures)
        except (RuntimeError, MemoryError) as error:
            if not devices.is_out_of_memory(error):
                raise
            if len(pictures) == 1:
                raise EngineError(f"the memory of {self._device} does not hold one face at a time; run fewer replicas on it") from None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        logger.warning("out of memory with %d faces; trying half as many", len(pictures))
        middle = len(pictures) // 2
        return self._within_memory(network, pictures[:middle]) + self._within_memory(network, pictures[middle:])


def find_mesh(frames: ByteArray, tick: Callable[[int], None] = lambda n: None) -> FloatArray:
    """MediaPipe's landmarks on I420 frames: float32 (n, 478, 2), NaN where it saw no face."""

    def told() -> Iterator[ByteArray]:
        for i, rgb in enumerate(map(to_rgb, frames), 1):
            yield rgb
            tick(i)

    return mesh_of(track_face(told(), shared_detector()).faces)


def to_rgb(frame: ByteArray) -> ByteArray:
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_YUV2RGB_I420), np.uint8)


def face_crop(rgb: ByteArray, box: FaceBox) -> ByteArray:
    """The face as the networks take it, uint8 (256, 256, 3); its proportions are not kept."""
    x0, y0, x1, y1 = box
    return np.asarray(cv2.resize(rgb[y0:y1, x0:x1], (FACE_SIDE, FACE_SIDE), interpolation=cv2.INTER_LANCZOS4), np.uint8)


def _fingerprint(path: Path) -> str:
    """Of a file's size, beginning and end, where archives keep the checksums of everything in them."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(FINGERPRINT_BYTES)
        file.seek(max(0, size - FINGERPRINT_BYTES))
        return hashlib.sha256(head + file.read() + str(size).encode()).hexdigest()[:16]

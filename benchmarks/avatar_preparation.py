"""What preparing an avatar from a clip costs, step by step, and how much steadier its face box is than by the published rule.

    python -m benchmarks.avatar_preparation [--seconds 10] [--size tiny|full | --models FOLDER] [--device cpu|cuda] [--json FILE]

The clip is generated: a shipped portrait that sways, 1280 x 720, 25 frames a second. Without --models the networks have generated weights: `tiny`,
the choice on a CPU, a tiny autoencoder, a face parser of its full size, no DWPose (MediaPipe stands in); `full`, the choice on a card, all three at
their real size (DWPose then finds nothing, at its full cost). With --models FOLDER, of the published layout, they are what lies there.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch

from benchmarks.generated_models import Size, write_autoencoder, write_parser
from benchmarks.machine import machine
from configs.models import ClipConfig, parse_config
from museserve.media.clip import read_clip
from museserve.messages import ByteArray
from museserve.timebase import FPS
from musetalk.avatars.builtin import shipped_portrait
from musetalk.avatars.from_clip import prepare_clip
from musetalk.avatars.store import AvatarStore
from musetalk.faces.box import BoxRule, bridge, jitter, mesh_box, smooth_path, whole_pixels
from musetalk.neural.avatar_parts import FaceNetworks
from musetalk.neural.networks import DWPOSE_FILE
from tests.musetalk.faces.pose_model import pose_model, save_pose

WIDTH, HEIGHT, SIDE = 1280, 720, 690
DWPOSE_BIN = 1.25 * WIDTH / 576  # pixels of a 1280 x 720 frame
RESULTS = Path(__file__).parent / "results" / "avatar_preparation.json"


def clip(seconds: float) -> bytes:
    """A person who sways before a plain wall."""
    portrait = np.asarray(cv2.resize(shipped_portrait("interviewer_woman").portrait, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)
    out = io.BytesIO()
    n = round(seconds * FPS)
    with av.open(out, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"crf": "18", "preset": "veryfast"}
        for rgb in _frames(portrait, n):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
    return out.getvalue()


def _frames(portrait: ByteArray, n: int) -> Iterator[ByteArray]:
    for i in range(n):
        turn = 2 * np.pi * i / (4 * FPS)
        matrix = np.array([[1, 0, (WIDTH - SIDE) / 2 + 22 * np.sin(turn)], [0, 1, (HEIGHT - SIDE) / 2 + 8 * np.cos(2 * turn)]])
        yield np.asarray(cv2.warpAffine(portrait, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def box_jitter(track: Any, scale: float) -> dict[str, float]:
    """Of boxes by the published rule from landmarks at DWPose's bins for the clip's own frames, as they stand and smoothed; pixels of those frames.

    track: (n, 478, 2) in the avatar's square; scale: pixels of a frame per pixel of the square.
    """
    exact = np.asarray(track, np.float64) * scale
    binned = np.floor(exact / DWPOSE_BIN) * DWPOSE_BIN
    boxes = bridge(np.stack([mesh_box(points) for points in binned]))
    published = np.array([whole_pixels(box, BoxRule(), WIDTH, HEIGHT) for box in boxes])
    path = smooth_path(boxes, loop=False)
    smoothed = np.array([whole_pixels(box, BoxRule(), WIDTH, HEIGHT) for box in path])
    names = ("published rule", "smoothed, whole pixels", "smoothed, before rounding")
    return {name: round(jitter(values), 2) for name, values in zip(names, (published, smoothed, path), strict=True)}


def measure(seconds: float, models: Path | None, size: Size, device: str, folder: Path) -> dict[str, Any]:
    weights = "given"
    if models is None:
        weights = f"generated, {'the real size' if size == 'full' else 'a tiny autoencoder'}"
        models = folder / "models"
        write_autoencoder(models, size)
        write_parser(models)
        if size == "full":
            save_pose(models / DWPOSE_FILE, pose_model())
    settings = {"device": device, "threads": torch.get_num_threads()}
    config = parse_config({"weights": {"uri": str(models), "unpublished": True}, "lipsync": {"engine": "musetalk", "musetalk": settings}})
    film = clip(seconds)
    began = time.perf_counter()
    networks = FaceNetworks(config)
    loaded = time.perf_counter()
    decoded = sum(1 for _ in read_clip(film, ClipConfig()))
    decode_s = time.perf_counter() - loaded
    steps: dict[str, float] = {}
    last, since = "", time.perf_counter()

    def progress(step: str, done: float) -> None:
        nonlocal last, since
        now = time.perf_counter()
        if last:
            steps[last] = steps.get(last, 0.0) + now - since
        last, since = step, now

    store = AvatarStore(str(folder / "avatars"))
    start = time.perf_counter()
    ref, _ = prepare_clip(film, id="benchmark", store=store, networks=networks, progress=progress)
    total = time.perf_counter() - start
    progress("", 1.0)
    avatar = store.load(ref.id)
    assert avatar.track is not None
    found = avatar.meta.report["musetalk"]
    iris = float(np.median(np.linalg.norm(avatar.track[:, 468] - avatar.track[:, 473], axis=1)))
    return {
        "machine": {**machine(), "device": device, "threads": settings["threads"]},
        "clip": {"seconds": seconds, "frames": decoded, "width": WIDTH, "height": HEIGHT, "bytes": len(film)},
        "networks": {"landmarks": found["landmarks"], "mask": found["mask"], "weights": weights},
        "notes": found["notes"],
        "load_s": round(loaded - began, 2),
        "decode_alone_s": round(decode_s, 2),
        "steps_s": {name: round(seconds, 2) for name, seconds in steps.items()},
        "total_s": round(total, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "stored_mb": round(sum(file.bytes for file in avatar.meta.files.values()) / 2**20, 1),
        "box_jitter_px": box_jitter(avatar.track, avatar.meta.report["iris_px"] / iris),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--size", choices=("tiny", "full"))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, default=RESULTS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        size: Size = args.size or ("full" if args.device == "cuda" else "tiny")
        found = measure(args.seconds, args.models, size, args.device, Path(folder))
    print(json.dumps(found, indent=2))
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""What a frame of video costs, and what quality it buys: milliseconds, bytes and PSNR for each x264 preset and crf.

python -m benchmarks.encoder [--size 512] [--seconds 8] [--presets ...] [--crfs ...] [--json FILE]

The picture is generated: a soft portrait-like scene with film grain baked in, swaying as a head does, with a mouth that opens and closes.
Then the encoder that the service uses, step by step: conversion of speech, H.264, AAC, fragments; whole segments and pieces of two frames.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from configs.models import MediaConfig
from museserve.media.compositing import paste, planes
from museserve.media.encode import FragmentEncoder
from museserve.media.mp4 import to_mp4
from museserve.messages import Box, ByteArray, FloatArray
from museserve.timebase import FPS, SEGMENT_FRAMES, SPEECH_RATE, SPEECH_SAMPLES_PER_FRAME


def talking_frames(size: int, n: int) -> ByteArray:
    """I420 (n, size * 3 // 2, size): a face-like scene in motion."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    scene = np.stack([90 + 70 * x, 100 + 60 * y, 130 - 50 * x], axis=-1)
    hair = ((x - 0.5) / 0.27) ** 2 + ((y - 0.42) / 0.36) ** 2 < 1
    strands = cv2.GaussianBlur(rng.normal(0, 60, (size, size)).astype(np.float32), (0, 0), sigmaX=1, sigmaY=8)
    scene[hair] = (np.array([60, 40, 30]) + strands[..., None])[hair]
    face = ((x - 0.5) / 0.2) ** 2 + ((y - 0.47) / 0.27) ** 2 < 1
    scene[face] = (np.array([224, 180, 155]) - 60 * ((x - 0.45) ** 2 + (y - 0.4) ** 2)[..., None] * 8)[face]
    for cx in (0.42, 0.58):
        scene[((x - cx) / 0.04) ** 2 + ((y - 0.42) / 0.018) ** 2 < 1] = (60, 50, 50)
    scene += rng.normal(0, 3, (size, size, 1))
    scene = cv2.GaussianBlur(scene.clip(0, 255).astype(np.float32), (0, 0), 0.7)
    frames = np.empty((n, size * 3 // 2, size), np.uint8)
    for i in range(n):
        t = i / FPS
        shift = size / 512 * np.array([3.0 * np.sin(0.9 * t), 2.0 * np.sin(1.3 * t + 1)])
        sway = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
        moved = cv2.warpAffine(scene, sway, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        opening = max(0.0, np.sin(9 * t)) * (0.5 + 0.5 * np.sin(2.3 * t))
        centre = (int(size * 0.5 + shift[0]), int(size * 0.62 + shift[1]))
        cv2.ellipse(moved, centre, (int(size * 0.055), int(size * (0.008 + 0.03 * opening))), 0, 0, 360, (120, 40, 45), -1, cv2.LINE_AA)
        frames[i] = cv2.cvtColor(moved.clip(0, 255).astype(np.uint8), cv2.COLOR_RGB2YUV_I420)
    return frames


def babble(seconds: float) -> FloatArray:
    """Noise in syllables: what AAC finds about as hard as speech."""
    n = round(seconds * SPEECH_RATE)
    t = np.arange(n) / SPEECH_RATE
    buzz = sum(np.sin(2 * np.pi * 120 * k * t + k) / k for k in range(1, 30))
    noise = np.random.default_rng(3).normal(0, 0.3, n)
    return np.asarray(0.12 * (buzz + noise) * np.clip(np.sin(2 * np.pi * 2.2 * t), 0, 1), np.float32)


def encode(frames: ByteArray, pcm: FloatArray, config: MediaConfig, pieces: int = SEGMENT_FRAMES) -> tuple[bytes, list[bytes], list[float]]:
    """Init segment, fragments, and the milliseconds of processor time of each."""
    size = frames.shape[2]
    cost, fragments = [], []
    with FragmentEncoder(size, size, config) as encoder:
        encoder.push_audio(pcm)
        encoder.finish_audio(len(frames))
        for at in range(0, len(frames), pieces):
            began = time.process_time()
            fragments.append(encoder.encode(frames[at : at + pieces]))
            cost.append((time.process_time() - began) * 1e3)
        return encoder.init_segment, fragments, cost


def psnr(data: bytes, frames: ByteArray) -> float:
    """Of luma, over all frames, dB."""
    errors = []
    with av.open(io.BytesIO(data), "r") as container:
        for shown, frame in zip(container.decode(video=0), frames, strict=True):
            luma = planes(frame)[0].astype(np.float32)
            errors.append(float(np.mean((shown.to_ndarray(format="yuv420p")[: len(luma)] - luma) ** 2)))
    return float(10 * np.log10(255**2 / np.mean(errors)))


def settings(frames: ByteArray, pcm: FloatArray, presets: list[str], crfs: list[int]) -> list[dict[str, Any]]:
    rows = []
    for preset in presets:
        for crf in crfs:
            config = MediaConfig.model_validate({"preset": preset, "crf": crf})
            init, fragments, cost = encode(frames, pcm, config)
            per_frame = [ms / SEGMENT_FRAMES for ms in cost]
            data = b"".join([init, *fragments])
            with av.open(io.BytesIO(data), "r") as container:
                video = sum(packet.size for packet in container.demux(video=0))
            rows.append(
                {
                    "preset": preset,
                    "crf": crf,
                    "ms_per_frame": round(statistics.median(per_frame), 3),
                    "ms_per_frame_p95": round(float(np.percentile(per_frame, 95)), 3),
                    "bytes_per_s": round(len(data) * FPS / len(frames)),
                    "video_bytes_per_s": round(video * FPS / len(frames)),
                    "psnr_db": round(psnr(data, frames), 2),
                }
            )
    return rows


def steps(frames: ByteArray, pcm: FloatArray, config: MediaConfig) -> dict[str, float]:
    """Milliseconds of processor time a frame, by step."""
    n, size = len(frames), frames.shape[2]
    found: dict[str, float] = {}

    def measured(name: str, function: Any, per: int) -> Any:
        began = time.process_time()
        result = function()
        found[name] = round((time.process_time() - began) * 1e3 / per, 4)
        return result

    tiny = np.full((n, 24, 16), 128, np.uint8)
    silence = np.zeros(n * SPEECH_SAMPLES_PER_FRAME, np.float32)
    whole = measured("all, whole segments", lambda: encode(frames, pcm, config), n)
    measured("all, pieces of 2", lambda: encode(frames, pcm, config, 2), n)
    measured("sound and fragments only (16x16 picture), whole segments", lambda: encode(tiny, pcm, config), n)
    measured("sound and fragments only, pieces of 2", lambda: encode(tiny, pcm, config, 2), n)
    measured("fragments only (silence), whole segments", lambda: encode(tiny, silence, config), n)
    measured("finished mp4 from fragments", lambda: to_mp4([whole[0], *whole[1]], io.BytesIO()), n)
    side = size // 2 // 2 * 2
    box, crop = Box(size // 4 // 2 * 2, size // 4 // 2 * 2, side, side), frames[0].reshape(-1)[: side * side * 3 // 2].reshape(-1, side).copy()
    mask = np.full((side, side), 200, np.uint8)
    for name, alpha in (("copy and paste", None), ("copy and paste with a mask", mask)):

        def compose(alpha: ByteArray | None = alpha) -> None:
            for frame in frames:
                paste(frame.copy(), crop, box, alpha)

        measured(f"{name}, {side}x{side}", compose, n)
    opened = []
    for _ in range(10):
        began = time.perf_counter()
        FragmentEncoder(size, size, config).close()
        opened.append((time.perf_counter() - began) * 1e3)
    found["open an encoder (ms)"] = round(statistics.median(opened), 3)
    first = []
    for _ in range(10):
        began = time.perf_counter()
        with FragmentEncoder(size, size, config) as encoder:
            encoder.push_audio(pcm[:SPEECH_RATE])
            encoder.encode(frames[:2])
            first.append((time.perf_counter() - began) * 1e3)
    found["open and first piece of 2 (ms)"] = round(statistics.median(first), 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=7.68)
    parser.add_argument("--presets", nargs="+", default=["ultrafast", "superfast", "veryfast", "faster", "medium"])
    parser.add_argument("--crfs", nargs="+", type=int, default=[13, 16, 19])
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    n = max(round(args.seconds * FPS) // SEGMENT_FRAMES, 1) * SEGMENT_FRAMES
    frames, pcm = talking_frames(args.size, n), babble(n / FPS)
    result = {"size": args.size, "frames": n, "settings": settings(frames, pcm, args.presets, args.crfs), "steps": steps(frames, pcm, MediaConfig())}
    print(f"{args.size}x{args.size}, {n} frames, one thread; milliseconds of processor time")
    print(f"{'preset':>10} {'crf':>4} {'ms/frame':>9} {'p95':>7} {'kB/s':>7} {'PSNR dB':>8}")
    for row in result["settings"]:
        print(
            f"{row['preset']:>10} {row['crf']:>4} {row['ms_per_frame']:>9.2f} {row['ms_per_frame_p95']:>7.2f}"
            f" {row['bytes_per_s'] / 1e3:>7.1f} {row['psnr_db']:>8.2f}"
        )
    for name, ms in result["steps"].items():
        print(f"{ms:>9.3f}  {name}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

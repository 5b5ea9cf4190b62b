"""What a portrait's film grain costs: video bits a second, idle and speaking, by how much of it is softened.

python -m benchmarks.grain PORTRAIT.png [PORTRAIT.png ...] [--seconds 10] [--strengths 0 5 8 12] [--face 0 0.4 1]

Frames are drawn by the animator at 512 px and encoded as the service encodes them. `detail` is what is left of the portrait's own: the variance of
the Laplacian in the face, and beside it, at the size that is shown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image

from configs.models import MediaConfig
from museserve.media.compositing import paste
from museserve.media.encode import set_up_video
from museserve.messages import ByteArray, FloatArray
from museserve.timebase import FPS, IDLE_FRAMES
from musetalk.animator.render import idle_frame, render_crop
from musetalk.animator.rig import Rig
from musetalk.faces.mediapipe import find_faces
from musetalk.faces.quality import OVAL
from musetalk.speech_cues.controls import JAW, LOWER_DROP, N_CONTROLS, ROUND, UPPER_RAISE, WIDE
from tools.ship_portrait import soften

SIZE = 512


def speech_rows(frames: int) -> FloatArray:
    """Controls that open, round and spread a mouth about four times a second, with a pause now and then."""
    t = np.arange(frames) / FPS
    rows = np.zeros((frames, N_CONTROLS), np.float32)
    loud = (np.sin(2 * np.pi * t / 3.0) > -0.7) * np.abs(np.sin(2 * np.pi * 2.1 * t))
    rows[:, JAW], rows[:, LOWER_DROP], rows[:, UPPER_RAISE] = 0.4 * loud, 0.25 * loud, 0.2 * loud
    rows[:, WIDE], rows[:, ROUND] = 0.4 * loud * (np.sin(3 * t) > 0), 0.6 * loud * (np.sin(3 * t) < -0.3)
    return rows


def video_bits(frames: Sequence[ByteArray]) -> int:
    """Of the encoded pictures alone, without sound and container."""
    context = av.CodecContext.create("libx264", "w")
    set_up_video(context, SIZE, SIZE, MediaConfig())
    bits = 0
    for number, picture in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
        frame.pts = number
        bits += sum(8 * packet.size for packet in context.encode(frame))
    return bits + sum(8 * packet.size for packet in context.encode(None))


def detail(portrait: ByteArray, landmarks: FloatArray) -> tuple[float, float]:
    """Variance of the Laplacian in the face and outside it, at `SIZE`."""
    small = cv2.resize(cv2.cvtColor(portrait, cv2.COLOR_RGB2GRAY), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    face = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillConvexPoly(face, np.round(landmarks[list(OVAL), :2] * SIZE / portrait.shape[0]).astype(np.int32), 255)
    edges = cv2.Laplacian(small, cv2.CV_64F)
    return float(edges[face > 0].var()), float(edges[face == 0].var())


def measure(portrait: ByteArray, landmarks: FloatArray, seconds: float) -> tuple[float, float, float, float]:
    """Mbit/s idle and speaking, and `detail`. Equal landmarks move equally."""
    rig, frames = Rig.build(portrait, landmarks, SIZE), round(seconds * FPS)
    idle = [idle_frame(rig, n % IDLE_FRAMES) for n in range(frames)]
    speaking = [picture.copy() for picture in idle]
    for n, row in enumerate(speech_rows(frames)):
        paste(speaking[n], render_crop(rig, n % IDLE_FRAMES, row), rig.box)
    rates = (video_bits(pictures) / seconds / 1e6 for pictures in (idle, speaking))
    return (*rates, *detail(portrait, landmarks))  # type: ignore[return-value]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grain", description="Measures what a portrait's film grain costs.")
    parser.add_argument("portraits", type=Path, nargs="+")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.0, 5.0, 8.0, 12.0])
    parser.add_argument("--face", type=float, nargs="+", default=[0.0, 0.4, 1.0], help="share of it inside the face")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    print("portrait                      strength  face   idle   speaking Mbit/s   detail face  beside")
    for path in options.portraits:
        picture = np.asarray(Image.open(path).convert("RGB"))
        landmarks = find_faces(picture)[0].landmarks
        for strength in options.strengths:
            for share in options.face if strength else (0.0,):
                soft = soften(picture, landmarks, strength, share) if strength else picture
                idle, speaking, face, beside = measure(soft, landmarks, options.seconds)
                name = f"{path.parent.name}/{path.name}"
                print(f"{name:<29.29} {strength:>8g}  {share:>4g}  {idle:>5.2f}  {speaking:>8.2f}  {face:>18.0f}  {beside:>6.0f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The shipped avatars with a short loop and a face for MuseTalk's networks, made in a moment from their portraits: for benchmarks and tests.

They stand in for prepared ones where that would take minutes: nothing is parsed, the mask is an ellipse, and the loop has a few frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch

from configs.models import AppConfig
from museserve.media.idle_loop import encode_idle
from museserve.messages import ANIMATOR, MUSETALK, Box
from museserve.weights.folder import WeightsFolder
from musetalk.avatars.assembly import assemble
from musetalk.avatars.builtin import BUILTIN, shipped_portrait
from musetalk.avatars.format import EngineParts, PreparedAvatar, content_version
from musetalk.avatars.from_portrait import animator_version, builtin_settings
from musetalk.avatars.store import AvatarStore
from musetalk.neural.avatar_parts import neural_version
from musetalk.neural.networks import load_vae

FRAMES = 8


@torch.inference_mode()
def write_avatars(config: AppConfig, ids: Sequence[str] = BUILTIN, faces: int = 1) -> None:
    """Save them in the configured store. faces: different latents of an avatar; each costs the autoencoder two pictures."""
    vae = load_vae(WeightsFolder(config.weights), torch.device("cpu"), torch.float32)
    store = AvatarStore(config.avatars.uri)
    for avatar_id in ids:
        store.save(_avatar(avatar_id, config, vae, faces))


def _avatar(avatar_id: str, config: AppConfig, vae: Any, faces: int) -> PreparedAvatar:
    size = config.avatars.size
    settings = builtin_settings(avatar_id, size, config.mux.media)
    shipped = shipped_portrait(avatar_id)
    portrait = shipped.portrait
    picture = cv2.resize(portrait, (size, size), interpolation=cv2.INTER_AREA)
    landmarks = shipped.landmarks[:, :2] * (size / len(portrait))
    (left, top), (right, bottom) = landmarks.min(0).astype(int) // 2 * 2, landmarks.max(0).astype(int) // 2 * 2
    box = Box(int(left), int(top), int(right - left), int(bottom - top))
    frames = [np.clip(picture.astype(int) + i, 0, 255).astype(np.uint8) for i in range(FRAMES)]  # each a little brighter than the last
    loop = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420) for frame in frames])
    crops = np.stack([cv2.resize(f[top:bottom, left:right], (256, 256), interpolation=cv2.INTER_LANCZOS4) for f in frames[:faces]])
    latents = vae.encode_faces(torch.from_numpy(crops)).numpy().astype(np.float16)
    mask = np.zeros((box.h, box.w), np.uint8)
    cv2.ellipse(mask, (box.w // 2, box.h * 2 // 3), (box.w // 3, box.h // 4), 0, 0, 360, 255, -1)
    arrays = {"latents": latents, "latent_index": np.arange(FRAMES) % faces}
    face_boxes = np.tile(np.array([left, top, right, bottom], np.int32), (FRAMES, 1))
    engines = {
        ANIMATOR: EngineParts(animator_version(), box, {"none": np.zeros(1, np.float32)}),
        MUSETALK: EngineParts(neural_version(config), box, arrays, mask, face_boxes),
    }
    idle, version = encode_idle(loop, config.mux.media), content_version(settings, "generated")
    made = assemble(shipped, idle, engines, version=version, settings=settings, report={})
    return replace(made, frames=loop, crf=None)

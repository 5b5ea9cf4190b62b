"""MuseTalk as a lip-sync engine: hears with Whisper, draws the face with a UNet and a decoder."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from configs.models import MuseTalkConfig
from museserve.errors import EngineError
from museserve.messages import MUSETALK, ByteArray, Conditioning, EngineInfo, RenderRequest, SpeechWindow
from museserve.weights.folder import WeightsFolder
from musetalk.neural import device as devices
from musetalk.neural.latents import LatentCache, LoadArrays
from musetalk.neural.listening import PIECE_S, WhisperListener
from musetalk.neural.networks import load_taesd, load_unet, load_vae, read_whisper
from musetalk.neural.renderer import FaceRenderer
from musetalk.neural.restore import Restorer
from musetalk.neural.unet import AUDIO_TOKENS

logger = logging.getLogger(__name__)

VERSION = "2"  # of what the same speech looks like, beside the version of the weights
FADE_FRAMES = 3  # drawn mouths come and go over so many frames


class MuseTalk:
    """Implements `musetalk.engine.LipSyncEngine`. Thread-safe. Warm when the constructor returns.

    Args:
        load_arrays: an avatar's `latents` float16 (n_unique, 8, 32, 32) and `latent_index` int (n_frames,).
        gpu_share: part of a card that this process was given; the most memory it takes, unless `config.memory_fraction` says otherwise.
    Raises:
        EngineUnavailableError: no such device, a compiler that was asked for is not there, or memory does not hold it.
        WeightsError, ConfigError: model files are missing, damaged or of another network; what is wrong is named.
    """

    def __init__(
        self,
        config: MuseTalkConfig,
        weights: WeightsFolder,
        load_arrays: LoadArrays,
        *,
        reason: str = "configured",
        gpu_share: float | None = None,
    ) -> None:
        began = time.perf_counter()
        device = devices.choose(config)
        dtype = devices.precision(config, device)
        devices.set_up(device, config.threads, config.memory_fraction or gpu_share or None)
        hears_in = torch.float32 if device.type == "cpu" else dtype  # hearing is a hundredth of drawing: nothing is gained by less
        self._listener = WhisperListener(read_whisper(weights), version=config.version, device=device, dtype=hears_in)
        # Before what takes long, as its package may be missing, and before batches are measured by the memory that is left.
        self._restorer = Restorer.load(weights, device, strength=config.restore) if config.restore else None
        unet = load_unet(weights, config.version, device, dtype)
        decode: nn.Module = load_taesd(weights, device, dtype) if config.decoder == "taesd" else load_vae(weights, device, dtype).decode_only()
        self._row_shape = (AUDIO_TOKENS, unet.config.cross_attention_dim)
        self._renderer = FaceRenderer(unet, decode, device, dtype, config.batch_sizes, config.compile)
        self._load_arrays = load_arrays
        self._latents = LatentCache(load_arrays, device, dtype, config.latent_cache_bytes)
        details: dict[str, Any] = {
            "weights": {"v15": "MuseTalk 1.5", "v1": "MuseTalk 1.0"}[config.version],
            "decoder": {"exact": "sd-vae-ft-mse, exact", "taesd": "TAESD, smaller and less exact"}[config.decoder],
            "dtype": str(dtype).removeprefix("torch."),
            "batch_sizes": list(self._renderer.sizes),
            "compile": self._renderer.mode,
            "kernels": self._renderer.kernels,
            **({"ways": {str(size): way for size, way in self._renderer.ways.items()}} if self._renderer.ways else {}),
            **({"restore": f"GFPGAN 1.4, strength {config.restore:g}"} if self._restorer else {}),
            **({"note": self._renderer.note} if self._renderer.note else {}),
        }
        name = devices.describe(device)
        version, listener = f"{config.version}-{VERSION}", self._listener
        self.info = EngineInfo(
            MUSETALK, reason, version, name, listener.context_s, listener.lookahead_s, details, FADE_FRAMES, batches=True, piece_s=PIECE_S
        )
        logger.info("MuseTalk is warm after %.1f s on %s: %s", time.perf_counter() - began, name, details)

    def listen(self, speech: SpeechWindow) -> Conditioning:
        """Rows (n_frames, 50, 384) float16. Raises EngineError, DeviceLostError as `render`."""
        try:
            return self._listener.listen(speech)
        except (RuntimeError, MemoryError) as error:
            raise self._renderer.failed(error, "listening") from None

    @torch.inference_mode()
    def render(self, requests: Sequence[RenderRequest]) -> list[ByteArray]:
        """Faces at 256x256, I420 uint8 (n, 384, 256), one array a request.

        Raises:
            EngineError: rows or frame numbers that do not fit, an avatar that is not prepared for this engine, memory that does not suffice.
            DeviceLostError: the card failed.
        """
        for request in requests:
            if request.rows.shape != (request.n_frames, *self._row_shape):
                raise EngineError(
                    f"{request.n_frames} frames need rows ({request.n_frames}, {self._row_shape[0]}, {self._row_shape[1]}), got {request.rows.shape}"
                )
        drawn = [request for request in requests if request.n_frames]
        if not drawn:
            return [np.empty((0, 384, 256), np.uint8) for _ in requests]
        try:
            latents = torch.cat([self._latents.get(request.avatar).of(request.background) for request in drawn])
        except (RuntimeError, MemoryError) as error:
            raise self._renderer.failed(error) from None
        crops = self._renderer.draw(latents, np.concatenate([np.asarray(request.rows, np.float16) for request in drawn]))
        ends = list(itertools.accumulate(request.n_frames for request in requests))
        return [self._restored(request, part) for request, part in zip(requests, np.split(crops, ends[:-1]), strict=True)]

    def _restored(self, request: RenderRequest, crops: ByteArray) -> ByteArray:
        """The faces of one request, which are neighbours in time."""
        if self._restorer is None or not len(crops):
            return crops
        return self._restorer.restore(crops, self._load_arrays(request.avatar)["layout"][list(request.background)])

    def check(self) -> None:
        """Raise DeviceLostError when the card is gone."""
        self._renderer.check()

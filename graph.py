"""The deployment graph: the only file that knows every deployment. What each may use and how it scales is configuration.

    Ingress --stream--> Mux --stream--> TTS
       |                 +---unary----> LipSync   (segments of all utterances, batched)
       +----stream----> FacePrep

A consumer holds its producer's handle and pulls, because a stream cannot be passed on.
"""

from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig

from configs.models import AppConfig, AutoscaleConfig
from deployments.face_prep import FacePrep
from deployments.ingress.ingress import Ingress
from deployments.lipsync import LipSync
from deployments.mux import Mux
from deployments.tts import TTS


def build(config: AppConfig) -> Application:
    """The application for a configuration; `serve run` and a cluster's YAML call it too."""
    scale = config.deployments
    face_prep = _deployment(FacePrep, scale.face_prep).bind(config)
    tts = _deployment(TTS, scale.tts).bind(config.speech)
    lipsync = _deployment(LipSync, scale.lipsync, health_check_period_s=1).bind(config)  # a lost card is known after three of them
    mux = _deployment(Mux, scale.mux).bind(config, tts, lipsync)
    app: Application = _deployment(serve.ingress()(Ingress), scale.ingress, name="Ingress").bind(config, mux, face_prep)
    return app


def _deployment(cls: type, scale: AutoscaleConfig, name: str | None = None, health_check_period_s: float = 5) -> Any:
    return serve.deployment(
        cls,
        name=name or cls.__name__,
        ray_actor_options={"num_cpus": scale.num_cpus, "num_gpus": scale.num_gpus},
        max_ongoing_requests=scale.max_ongoing_requests,
        max_queued_requests=scale.max_queued_requests,
        graceful_shutdown_timeout_s=scale.graceful_shutdown_timeout_s,
        graceful_shutdown_wait_loop_s=0.25,  # the least time that each tier of the graph takes to stop; 2 s by default
        health_check_period_s=health_check_period_s,
        autoscaling_config=AutoscalingConfig(
            min_replicas=scale.min_replicas,
            initial_replicas=max(scale.min_replicas, 1),
            max_replicas=scale.max_replicas,
            target_ongoing_requests=scale.target_ongoing_requests,
            upscale_delay_s=scale.upscale_delay_s,
            downscale_delay_s=scale.downscale_delay_s,
        ),
    )

"""The deployment graph: the only file that knows every deployment. What each may use and how it scales is configuration.

    Ingress --stream--> Mux --stream--> TTS
       |                 +---unary----> LipSync   (segments of all utterances, batched)
       +----stream----> FacePrep

A consumer holds its producer's handle and pulls, because a stream cannot be passed on.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, RequestRouterConfig

from configs.models import AppConfig, AutoscaleConfig, TracingConfig
from deployments.face_prep import FacePrep
from deployments.ingress.ingress import Ingress
from deployments.lipsync import LipSync
from deployments.mux import Mux
from deployments.routing import router_config
from deployments.tts import TTS
from museserve.errors import ConfigError
from museserve.runtime import storage

# Key of `deployments` in the configuration -> name of the deployment.
DEPLOYMENTS = {"ingress": "Ingress", "mux": "Mux", "tts": "TTS", "lipsync": "LipSync", "face_prep": "FacePrep"}

SCHEMES = ("s3", "gs", "gcs", "file")  # of a store

# What can change while replicas keep running. Ray calls metrics_interval_s deprecated, but the variables that it names
# instead do nothing in 2.60.
SCALING = {
    *("min_replicas", "max_replicas", "target_ongoing_requests", "upscale_delay_s", "downscale_delay_s"),
    *("metrics_interval_s", "look_back_period_s"),
}


def build(config: AppConfig) -> Application:
    """The application of a cluster; a Serve document names it as `import_path`, and `serve run` calls it too.

    Raises:
        ConfigError: the configuration holds on one machine only (see `check_cluster`), or the bucket of a store is not
            there. Raised here, before any replica is replaced.
    """
    check_cluster(config)
    for key, uri in _stores(config).items():
        if uri:
            storage.check(*storage.resolve(uri, Path(), key), key)
    return assemble(config)


def check_cluster(config: AppConfig) -> None:
    """Raises ConfigError, with everything that several nodes cannot share, and what would cut streams at a redeploy."""
    wrong = [f"{key} {why}" for key, uri in _stores(config).items() if (why := _not_shared(uri))]
    longest = config.limits.max_utterance_s
    wrong += [
        f"deployments.{key}.graceful_shutdown_timeout_s ({scale.graceful_shutdown_timeout_s:g}) is below "
        f"limits.max_utterance_s ({longest:g}): a stopping replica would cut streams"
        for key, scale in (("ingress", config.deployments.ingress), ("mux", config.deployments.mux))
        if scale.graceful_shutdown_timeout_s < longest
    ]
    if config.access.auth is None:
        wrong.append("access.auth does not say who may use it: keys = who has one (museserve keys create), none = whoever reaches it")
    keys_file = config.access.keys_file
    if config.access.auth == "keys" and not (keys_file and keys_file.is_absolute()):
        wrong.append(f"access.keys_file is {str(keys_file or '')!r}, another file on each node: give the path of one that each has, from / on")
    if wrong:
        raise ConfigError("this configuration does not fit a cluster:\n  " + "\n  ".join(wrong))


def _stores(config: AppConfig) -> dict[str, str]:
    """Configuration key -> URI, of the stores that are used."""
    stores = {"avatars.uri": config.avatars.uri}
    if config.cache.enabled:
        stores["cache.uri"] = config.cache.uri
    if config.lipsync.engine == "musetalk" or config.weights.uri:
        stores["weights.uri"] = config.weights.uri
    return stores


def _not_shared(uri: str) -> str:
    """Why not all nodes see the same place there; empty when they may. The store is not asked."""
    scheme, _, rest = uri.partition("://") if "://" in uri else ("", "", uri)
    if not uri:
        return "is empty, the cache folder of each node: name what all nodes see (s3://, gs:// or a shared folder)"
    if not scheme and not Path(uri).is_absolute():
        return f"{uri!r} is a relative folder, another one on each node: give it from / on"
    if scheme and scheme not in SCHEMES:
        return f"{uri!r} is of no kind that can be read; accepted: a folder, {', '.join(f'{s}://' for s in SCHEMES)}"
    if not rest.partition("?")[0].strip("/"):
        return f"{uri!r} names no folder or bucket"
    return ""


def assemble(config: AppConfig) -> Application:
    """The application without `check_cluster`, for a launcher that starts every replica on its own machine."""
    scale = config.deployments
    face_prep = _deployment(FacePrep, "face_prep", scale.face_prep).bind(config)
    near, anywhere = router_config(local=True), router_config(local=False)
    tts = _deployment(TTS, "tts", scale.tts, router=near).bind(config.speech, config.weights)
    # A lost card is known after three health checks.
    lipsync = _deployment(LipSync, "lipsync", scale.lipsync, router=near, health_check_period_s=1).bind(config)
    mux = _deployment(Mux, "mux", scale.mux, router=anywhere).bind(config, tts, lipsync)
    app: Application = _deployment(serve.ingress()(Ingress), "ingress", scale.ingress).bind(config, mux, face_prep)
    return app


def autoscaling(scale: AutoscaleConfig) -> dict[str, Any]:
    """Serve's `autoscaling_config`."""
    return scale.model_dump(include=SCALING) | {"initial_replicas": max(scale.min_replicas, 1)}


def tracing(config: TracingConfig) -> dict[str, Any]:
    """Serve's `tracing_config`. Raises ConfigError: the exporter is not installed."""
    if config.enabled and config.exporter == "otlp" and find_spec("opentelemetry.exporter.otlp") is None:
        raise ConfigError("tracing.exporter is otlp, which is not installed: pip install 'museserve[tracing]', or choose file")
    path = f"deployments.tracing:{config.exporter}"
    return {"enabled": config.enabled, "exporter_import_path": path, "sampling_ratio": config.sampling_ratio}


def _deployment(cls: type, key: str, scale: AutoscaleConfig, router: RequestRouterConfig | None = None, health_check_period_s: float = 5) -> Any:
    """router: how calls choose a replica; None = as Serve does."""
    return serve.deployment(
        cls,
        name=DEPLOYMENTS[key],
        ray_actor_options={"num_cpus": scale.num_cpus, "num_gpus": scale.num_gpus, "resources": dict(scale.resources)},
        max_ongoing_requests=scale.max_ongoing_requests,
        max_queued_requests=scale.max_queued_requests,
        max_replicas_per_node=scale.max_replicas_per_node,  # type: ignore[arg-type]  # None is its default
        max_surge_percent=scale.max_surge_percent,
        graceful_shutdown_timeout_s=scale.graceful_shutdown_timeout_s,
        graceful_shutdown_wait_loop_s=0.25,  # the least time that each tier of the graph takes to stop; 2 s by default
        health_check_period_s=health_check_period_s,
        autoscaling_config=AutoscalingConfig(**autoscaling(scale)),
        request_router_config=router or RequestRouterConfig(),
    )

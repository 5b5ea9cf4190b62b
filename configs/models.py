"""The whole configuration as small frozen models. Unknown keys are errors; every bound is stated; units are in the names.

`engines` has what speaks, draws and films, `service` what callers and operators meet; here is how much of it runs, and how a file becomes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from configs.base import SPANS_DIR, StrictModel, cache_dir, spans_dir
from configs.engines import (
    AnimatorConfig,
    AvatarConfig,
    BatchConfig,
    BlendConfig,
    ClipConfig,
    LipSyncConfig,
    MediaConfig,
    MuseTalkConfig,
    MuxConfig,
    OpenAIConfig,
    SpeechConfig,
    SupertonicConfig,
    TranscriptionConfig,
    WeightsConfig,
)
from configs.service import (
    ORIGIN,
    AccessConfig,
    CacheConfig,
    LabelConfig,
    LimitsConfig,
    ProvenanceConfig,
    QuotaConfig,
    ServerConfig,
    SessionsConfig,
    TracingConfig,
)
from museserve.errors import ConfigError
from museserve.timebase import SEGMENT_FRAMES

# All of it is imported from here.
__all__ = [
    "AccessConfig",
    "AnimatorConfig",
    "AppConfig",
    "AutoscaleConfig",
    "AvatarConfig",
    "BatchConfig",
    "BlendConfig",
    "CONFIG_DIR",
    "CacheConfig",
    "CapacityConfig",
    "ClipConfig",
    "DeploymentsConfig",
    "LabelConfig",
    "LimitsConfig",
    "LipSyncConfig",
    "MediaConfig",
    "MuseTalkConfig",
    "MuxConfig",
    "ORIGIN",
    "OpenAIConfig",
    "ProvenanceConfig",
    "QuotaConfig",
    "SPANS_DIR",
    "SPARE_REQUESTS",
    "ServerConfig",
    "SessionsConfig",
    "SpeechConfig",
    "SupertonicConfig",
    "StrictModel",
    "TracingConfig",
    "TranscriptionConfig",
    "WeightsConfig",
    "cache_dir",
    "load_config",
    "merged",
    "parse_config",
    "spans_dir",
]

CONFIG_DIR = Path(__file__).parent
SPARE_REQUESTS = 24  # of an ingress replica's


class AutoscaleConfig(StrictModel):
    """How many replicas of a deployment run, and what each takes."""

    min_replicas: int = Field(1, ge=0, description="replicas kept even when idle; 0 allows scale to zero")
    max_replicas: int = Field(1, ge=1)
    target_ongoing_requests: float = Field(2.0, gt=0, description="load a replica is scaled for")
    upscale_delay_s: float = Field(5.0, ge=0)
    downscale_delay_s: float = Field(300.0, ge=0)
    metrics_interval_s: float = Field(10.0, ge=0.1, le=600, description="how often callers report their load")
    look_back_period_s: float = Field(30.0, gt=0.1, le=3_600, description="load is the mean of this time, above metrics_interval_s")
    max_ongoing_requests: int = Field(8, ge=1, description="requests one replica works on; more wait at the caller")
    max_queued_requests: int = Field(-1, ge=-1, description="waiting requests before the caller is refused; -1 = no limit")
    num_cpus: float = Field(0.25, ge=0)
    num_gpus: float = Field(0.0, ge=0)
    resources: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {}, description="what a replica takes of a node's `ray start --resources`: pins it to such nodes"
    )
    max_replicas_per_node: int | None = Field(None, ge=1, le=100, description="1 = one a node; None = no limit")
    max_surge_percent: int = Field(
        0, ge=0, le=100, description="new replicas of a new version that start before old ones stop; 0 = old ones stop first"
    )
    graceful_shutdown_timeout_s: float = Field(20.0, gt=0, description="how long a stopping replica may finish its requests")

    @model_validator(mode="after")
    def _ordered(self) -> AutoscaleConfig:
        if self.max_replicas < max(self.min_replicas, 1):
            raise ValueError(f"max_replicas ({self.max_replicas}) is below min_replicas ({self.min_replicas})")
        if self.look_back_period_s <= self.metrics_interval_s:
            look_back, interval = self.look_back_period_s, self.metrics_interval_s
            raise ValueError(f"look_back_period_s ({look_back:g}) must be above metrics_interval_s ({interval:g})")
        return self

    @field_validator("resources")
    @classmethod
    def _custom(cls, resources: dict[str, float]) -> dict[str, float]:
        if taken := {"CPU", "GPU", "memory", "object_store_memory"} & resources.keys():
            raise ValueError(f"{', '.join(sorted(taken))}: not a custom resource; use num_cpus and num_gpus")
        return resources


class CapacityConfig(StrictModel):
    """How many live streams a replica carries, each drawn as fast as it is watched: what the autoscaler aims at, and
    beyond which new utterances are refused until there are more replicas."""

    tts_streams: int = Field(16, ge=1, description="utterances whose speech one TTS replica makes in time")
    lipsync_streams: int = Field(0, ge=0, description="what one LipSync replica draws in time; 0 = each measures itself as it starts")
    mux_streams: int = Field(16, ge=1, description="what one Mux replica composes and encodes in time")
    measured_part: float = Field(0.5, gt=0, le=1, description="of what was measured that is used: new streams are drawn faster than they are watched")
    aim: float = Field(0.5, ge=0.1, le=1, description="part that the autoscaler keeps in use; the rest is for who comes before new ones serve")
    spare_replicas: int = Field(1, ge=0, le=100, description="of TTS, LipSync and Mux, beyond that while anybody watches")
    window_s: float = Field(60.0, ge=0, le=3_600, description="the autoscaler follows the largest load of so long")
    replica_start_s: float = Field(
        0.0, ge=0, description="from the wish for a LipSync replica until it serves; 0 = measured, without nodes that must start"
    )
    wait_s: float = Field(60.0, ge=0, description="how long a finished video, or an utterance of a session, waits for room before it is refused")


class DeploymentsConfig(StrictModel):
    ingress: AutoscaleConfig = AutoscaleConfig(num_cpus=0.1, max_ongoing_requests=200, target_ongoing_requests=100, max_queued_requests=50)
    mux: AutoscaleConfig = AutoscaleConfig(num_cpus=0.5, max_ongoing_requests=40, target_ongoing_requests=8, graceful_shutdown_timeout_s=120)
    tts: AutoscaleConfig = AutoscaleConfig(num_cpus=0.3, max_ongoing_requests=64, target_ongoing_requests=4)
    lipsync: AutoscaleConfig = AutoscaleConfig(num_cpus=0.4, max_ongoing_requests=64, target_ongoing_requests=8)
    face_prep: AutoscaleConfig = AutoscaleConfig(num_cpus=0.1, max_ongoing_requests=2, target_ongoing_requests=1, max_queued_requests=8)


class AppConfig(StrictModel):
    server: ServerConfig = ServerConfig()
    access: AccessConfig = AccessConfig()
    limits: LimitsConfig = LimitsConfig()
    capacity: CapacityConfig = CapacityConfig()
    avatars: AvatarConfig = AvatarConfig()
    weights: WeightsConfig = WeightsConfig()
    speech: SpeechConfig = SpeechConfig()
    transcription: TranscriptionConfig = TranscriptionConfig()
    lipsync: LipSyncConfig = LipSyncConfig()
    mux: MuxConfig = MuxConfig()
    sessions: SessionsConfig = SessionsConfig()
    cache: CacheConfig = CacheConfig()
    provenance: ProvenanceConfig = ProvenanceConfig()
    label: LabelConfig = LabelConfig()
    tracing: TracingConfig = TracingConfig()
    deployments: DeploymentsConfig = DeploymentsConfig()

    @model_validator(mode="after")
    def _calls_fit(self) -> AppConfig:
        frames = self.mux.segments_a_call * SEGMENT_FRAMES
        if frames > self.lipsync.batch.max_frames:
            raise ValueError(
                f"mux.segments_a_call asks for {frames} frames at once, more than lipsync.batch.max_frames ({self.lipsync.batch.max_frames})"
            )
        return self

    @model_validator(mode="after")
    def _room_for_requests(self) -> AppConfig:
        if self.open_requests < 1:
            raise ValueError(
                f"sessions.max_sessions ({self.sessions.max_sessions}) must be more than {SPARE_REQUESTS} below "
                f"deployments.ingress.max_ongoing_requests ({self.deployments.ingress.max_ongoing_requests}): a session is one request for as "
                "long as it is open"
            )
        return self

    @property
    def open_requests(self) -> int:
        """Over HTTP at once, of one ingress replica: what sessions leave, but for some that are for /health and for sessions to be refused."""
        return self.deployments.ingress.max_ongoing_requests - self.sessions.max_sessions - SPARE_REQUESTS


def load_config(source: str | Path = "local", overrides: dict[str, Any] | None = None) -> AppConfig:
    """Read a YAML file: a path, or the name of one that ships in `configs/` ("local").

    Raises:
        ConfigError: the file is missing, is not YAML, or a key or value is not known; the message names each.
    """
    path = Path(source)
    if not path.suffix and path.name == str(source):
        path = CONFIG_DIR / f"{source}.yaml"
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        shipped = ", ".join(sorted(p.stem for p in CONFIG_DIR.glob("*.yaml")))
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}. Shipped: {shipped}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # not UTF-8, a date that there is not, a thousand brackets
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if not overrides:
        return parse_config(raw, str(path))
    try:
        return parse_config(merged(raw, overrides), f"what is set beside {path}")
    except ConfigError:
        parse_config(raw, str(path))  # if it is the file that is wrong
        raise


def parse_config(raw: dict[str, Any], origin: str = "configuration") -> AppConfig:
    try:
        return AppConfig.model_validate(raw)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ConfigError(f"{origin} is not valid:\n" + "\n".join(lines)) from None


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`, key by key."""
    both = dict(base)
    for key, value in over.items():
        inner = both.get(key)
        both[key] = merged(inner if isinstance(inner, dict) else {}, value) if isinstance(value, dict) else value
    return both

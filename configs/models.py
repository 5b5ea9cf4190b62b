"""The whole configuration as small frozen models. Unknown keys are errors; every bound is stated; units are in the names."""

from __future__ import annotations

import os
import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from museserve.errors import ConfigError
from museserve.timebase import SEGMENT_FRAMES

CONFIG_DIR = Path(__file__).parent
ORIGIN = r"^https?://([a-z0-9.\-]+|\[[0-9a-f:]+\])(:\d+)?$"  # as browsers say it
SPANS_DIR = "MUSESERVE_SPANS_DIR"
SPARE_REQUESTS = 24  # of an ingress replica's


class StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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


class OpenAIConfig(StrictModel):
    base_url: str | None = Field(None, description="any OpenAI-compatible server; None = OPENAI_BASE_URL or the public one")
    api_key: SecretStr | None = Field(None, description="None = OPENAI_API_KEY")
    model: str = "gpt-4o-mini-tts"
    timeout_s: float = Field(20.0, gt=0, description="longest wait between two pieces of audio")
    max_retries: int = Field(2, ge=0, le=10, description="tries again on 408, 409, 429, 5xx and connection errors, before any audio came")
    instructions: str | None = Field(None, description="how to speak, for models that take it")


class SpeechConfig(StrictModel):
    engine: Literal["auto", "openai", "offline"] = Field("auto", description="auto = openai when a key is configured, else offline")
    on_openai_error: Literal["error", "fallback"] = Field(
        "error", description="fallback = an offline voice takes over, announced; error = the caller gets 502"
    )
    openai: OpenAIConfig = OpenAIConfig()
    lexicon: Path | None = Field(None, description="extra pronunciations, YAML; read on top of the shipped ones")
    threads: int = Field(1, ge=1, le=16, description="threads of one offline synthesis")
    max_text_chars: int = Field(4_096, ge=1, description="longest text of a request, characters after trimming")
    first_clause_chars: int = Field(48, ge=8, description="the first piece to synthesise is cut at a clause border near this length")


class AnimatorConfig(StrictModel):
    drive: Literal["mix", "phonemes", "sound"] = Field("mix", description="what moves the lips when phonemes are known; without them always sound")
    threads: int = Field(1, ge=1, le=16, description="frames of one batch drawn side by side")
    head_motion: float = Field(1.0, ge=0.0, le=1.5, description="amount of nods and brow accents while speaking")


class BlendConfig(StrictModel):
    """Which part of the drawn face shows, made once with each avatar. Another setting prepares avatars again when the service starts."""

    mode: Literal["auto", "jaw", "raw", "neck"] = Field("auto", description="as published: auto = jaw for v15, raw for v1")
    left_cheek: int = Field(90, ge=0, le=256, description="half width, of 512 pixels, that keeps its full height; only jaw has it")
    right_cheek: int = Field(90, ge=0, le=256)
    upper_boundary: float = Field(0.5, ge=0.3, le=0.8, description="part of the square around the face, from above, that stays the background")
    blur: float = Field(0.05, ge=0, le=0.2, description="soft border by the square's side; published: 0.05 for files, 0.1 for streams")
    margin: float = Field(10.0, ge=0, le=60, description="v15: pixels below the chin in a box of 240; more lets the chin move further")
    shift: int = Field(0, ge=-30, le=30, description="v1: pixels by which the middle moves down; more opens the mouth wider")


class MuseTalkConfig(StrictModel):
    """The neural engine. `auto` picks what the machine has; every other value is an error at start where it cannot be met."""

    version: Literal["v15", "v1"] = Field("v15", description="which published weights")
    device: Literal["auto", "cuda", "cpu"] = Field("auto", description="auto = a CUDA card, never the CPU: that takes seconds for a frame")
    dtype: Literal["auto", "float16", "bfloat16", "float32"] = Field(
        "auto", description="auto = float16 on CUDA, float32 on a CPU; bfloat16 = faster on a CPU that multiplies in it, and less exact"
    )
    decoder: Literal["exact", "taesd"] = Field("exact", description="taesd = a small decoder: several times as fast, and its faces differ a little")
    batch_sizes: tuple[int, ...] = Field((2, 8, 16, 32), description="frames drawn at once; other numbers are filled up to one of these")
    compile: Literal["auto", "off", "graphs", "inductor"] = Field(
        "auto",
        description="CUDA graphs: graphs = of our own kernels; inductor = of compiled ones, minutes at the start; auto = graphs on CUDA, off on CPUs",
    )
    memory_fraction: float | None = Field(
        None, gt=0, le=1, description="part of the card's memory this process may take; None = deployments.lipsync.num_gpus, or all of it"
    )
    blend: BlendConfig = BlendConfig()
    restore: float = Field(0.0, ge=0, le=1, description="sharpen drawn faces with GFPGAN: part of what it adds that shows; 0 = off, 0.5 = a start")
    latent_cache_bytes: int = Field(256 * 2**20, ge=2**20, description="avatars' latents kept on the device, least recently used first out")
    threads: int = Field(2, ge=1, le=128, description="threads on a CPU")

    @model_validator(mode="after")
    def _sizes(self) -> MuseTalkConfig:
        if (
            not self.batch_sizes
            or min(self.batch_sizes) < 1
            or max(self.batch_sizes) > 128
            or list(self.batch_sizes) != sorted(set(self.batch_sizes))
        ):
            raise ValueError(f"batch_sizes must be different numbers of 1 to 128 in ascending order, got {self.batch_sizes}")
        return self


class BatchConfig(StrictModel):
    max_frames: int = Field(2 * SEGMENT_FRAMES, ge=SEGMENT_FRAMES, description="frames of one batch; at least one segment")
    wait_s: float = Field(0.002, ge=0, le=1, description="how long an incomplete batch waits for more; near the time a batch takes")


class LipSyncConfig(StrictModel):
    engine: Literal["auto", "musetalk", "animator"] = "auto"
    animator: AnimatorConfig = AnimatorConfig()
    musetalk: MuseTalkConfig = MuseTalkConfig()
    batch: BatchConfig = BatchConfig()
    avatar_cache_bytes: int = Field(512 * 2**20, ge=16 * 2**20, description="prepared avatars a replica keeps, least recently used first out")


class MediaConfig(StrictModel):
    crf: int = Field(16, ge=0, le=40, description="x264's quantiser of every picture; lower is better and larger. A noisy clip gets a higher one")
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium"] = "ultrafast"
    audio_bit_rate_bps: int = Field(64_000, ge=16_000, le=320_000)
    mp3_bit_rate_bps: int = Field(96_000, ge=32_000, le=320_000)
    threads: int = Field(1, ge=1, le=16, description="x264 threads of one stream")


class MuxConfig(StrictModel):
    media: MediaConfig = MediaConfig()
    segments_in_flight: int = Field(2, ge=1, le=8, description="render calls an utterance keeps open")
    segments_a_call: int = Field(2, ge=1, le=8, description="segments drawn by one call when the viewer has a second in hand, else one")
    retries: int = Field(3, ge=0, le=10, description="times a failed segment is sent again")
    segment_timeout_s: float = Field(20.0, gt=0, description="longest wait for one segment")
    lead_s: float = Field(3.0, ge=0.64, description="a stream may get this far ahead of real time; it gains the lead over its first seconds")
    first_pieces: tuple[int, ...] = Field((2, 6), description="the first segment is sent in pieces of so many frames")
    encode_threads: int = Field(2, ge=1, le=32, description="encoders of one replica that run at once")
    avatar_cache_bytes: int = Field(512 * 2**20, ge=16 * 2**20)

    @model_validator(mode="after")
    def _pieces(self) -> MuxConfig:
        if sum(self.first_pieces) != SEGMENT_FRAMES or min(self.first_pieces) < 1:
            raise ValueError(f"first_pieces must add up to {SEGMENT_FRAMES} frames, got {self.first_pieces}")
        return self


class ClipConfig(StrictModel):
    """Which clips become avatars. Lengths are those of the clip as it is played."""

    min_s: float = Field(1.0, ge=0.4, description="shortest clip")
    max_s: float = Field(20.0, gt=0.4, le=120, description="longest clip; each second takes 10 MB of memory and of the store at 512 pixels")
    max_pixels: int = Field(9_000_000, ge=65_536, description="larger frames are refused before any is decoded; 4096 x 2160 fit")
    side: int = Field(1_080, ge=256, le=4_320, description="frames whose shorter side is longer are scaled down to it as they are decoded")
    bridge_s: float = Field(0.4, ge=0, description="longest stretch without a face that is bridged")
    max_missing: float = Field(0.2, ge=0, lt=1, description="part of all frames that may lack the face")
    max_yaw: float = Field(30.0, gt=0, le=90, description="degrees that the head may be turned to the side")

    @model_validator(mode="after")
    def _ordered(self) -> ClipConfig:
        if self.max_s < self.min_s:
            raise ValueError(f"max_s ({self.max_s:g}) is below min_s ({self.min_s:g})")
        return self


class AvatarConfig(StrictModel):
    uri: str = Field("", description="folder or pyarrow.fs URI (s3://, gs://); empty = the user's cache folder")
    size: Literal[512, 720, 1024] = Field(512, description="side of the square picture, pixels")
    max_pixels: int = Field(40_000_000, ge=65_536, description="larger portraits are refused before they are decoded")
    copies: Path | None = Field(None, description="where files of a remote `uri` are copied to; None = the user's cache folder")
    copies_bytes: int = Field(2 * 2**30, ge=2**20, description="of these copies; versions that were used longest ago go first")
    current_ttl_s: float = Field(3.0, ge=0, le=3_600, description="how long a replica knows what is current at a remote `uri` before it looks again")
    max_avatars: int = Field(200, ge=2, description="of each tenant; without keys there is one")
    default: str = "interviewer_woman"
    clip: ClipConfig = ClipConfig()


class WeightsConfig(StrictModel):
    """Where the published model files lie. `museserve weights download` fills the folder."""

    uri: str = Field(
        "", description="folder or pyarrow.fs URI (s3://, gs://) with the layout of MuseTalk's `models/`; empty = the user's cache folder"
    )
    unpublished: bool = Field(False, description="accept files of other sizes than the published ones, such as a UNet of your own training")
    mirror: str | None = Field(None, description="server with the Hugging Face API to download from; None = HF_ENDPOINT, else the public one")
    releases: str | None = Field(None, description="server that answers with the paths of GitHub's releases; None = GitHub")
    copies: Path | None = Field(None, description="where files of a remote `uri` are copied to; None = the user's cache folder")


class QuotaConfig(StrictModel):
    """What one key may use of one ingress replica, in whose memory it is counted. None = no limit."""

    requests_per_min: int | None = Field(None, ge=1, description="over HTTP, and sessions that begin; not /health")
    live_utterances: int | None = Field(None, ge=1, description="made at once, those of sessions too")
    chars_per_min: int | None = Field(None, ge=1, description="of texts that are spoken")
    chars_per_day: int | None = Field(None, ge=1)
    preparations_per_day: int | None = Field(None, ge=1, description="of avatars, those of /generate and /idle too")
    upload_bytes_per_day: int | None = Field(None, ge=1, description="of all bodies, and recordings of sessions")
    avatars: int | None = Field(None, ge=0, description="that the tenant may have in the store, also without keys")
    avatar_bytes: int | None = Field(10 * 2**30, ge=0, description="of these together; each takes about 100 MB at 512 pixels")


class LimitsConfig(StrictModel):
    max_body_bytes: int = Field(32 * 2**20, ge=1_024)
    max_clip_bytes: int = Field(128 * 2**20, ge=1_024, description="longest body with a clip that becomes an avatar")
    max_audio_s: float = Field(600.0, gt=0.32)
    min_audio_s: float = Field(0.2, gt=0)
    max_live_utterances: int = Field(32, ge=1, description="videos, and speech alone, made at once by one ingress; more get 503 and Retry-After")
    held_bytes: int = Field(512 * 2**20, ge=1_024, description="of all uploads that one ingress has in hand; more get 503 before they are read")
    request_s: float = Field(10.0, gt=0, description="longest pause in which nothing of a request comes; then it is answered with 408")
    body_bytes_per_s: int = Field(16_384, ge=1, description="slowest body that is waited for, on average")
    unread_s: float = Field(20.0, gt=0, description="a caller that reads nothing of its answer for so long is cut")
    connections_per_address: int = Field(
        512, ge=0, description="of one address to this machine's HAProxy; more are cut. 0 = any number, where a load balancer is in front"
    )
    quota: QuotaConfig = QuotaConfig()
    quotas: dict[str, QuotaConfig] = Field({}, description="by the id of a key: what is set here counts for it instead of `quota`")
    quota_by_address: bool = Field(False, description="where access.auth is none: `quota` is what each client address may use")
    media_root: Path | None = Field(None, description="folder that `audio_path` is read from; None refuses audio_path")
    max_utterance_s: float = Field(900.0, gt=1, description="longest spoken utterance")


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


class SessionsConfig(StrictModel):
    """Live conversations, `WS /v1/sessions`. Counts are for one ingress replica, in whose memory its sessions live; a client takes its to another."""

    max_sessions: int = Field(64, ge=1, description="sessions at once, those without a connection included; more are closed with 4013")
    queued_utterances: int = Field(16, ge=1, le=1_000, description="utterances of a session that are not finished")
    message_bytes: int = Field(2**20, ge=1_024, le=16 * 2**20, description="longest message of a client")
    audio_bytes: int = Field(8 * 2**20, ge=1_024, description="longest recorded utterance; a session holds one while it arrives")
    messages_per_s: float = Field(100.0, gt=0, description="what a client may send for long; twice as much in a burst of a second or two")
    window_bytes: int = Field(4 * 2**20, ge=2**18, description="sent to a session and not acknowledged; when it is full, no more is sent")
    slow_s: float = Field(10.0, gt=0, description="a client that lets its window stay full for half of this is told, for all of it is cut")
    start_s: float = Field(10.0, gt=0, description="longest wait for the first message")
    heartbeat_s: float = Field(20.0, gt=0, description="how often clients are asked to ping")
    silent_s: float = Field(90.0, gt=0, description="a connection that sends nothing for so long is closed; hidden tabs wake up once a minute")
    resume_s: float = Field(90.0, ge=0, description="how long a session waits for a lost connection to come back")
    idle_s: float = Field(1_800.0, gt=0, description="a session in which nothing is said for so long ends")
    session_s: float = Field(4 * 3_600.0, gt=0, description="longest session")

    @model_validator(mode="after")
    def _beats(self) -> SessionsConfig:
        if self.silent_s < self.heartbeat_s:
            raise ValueError(f"silent_s ({self.silent_s:g}) is below heartbeat_s ({self.heartbeat_s:g}): every client would be cut")
        return self


class CacheConfig(StrictModel):
    """Finished utterances, so that what was asked before is there at once, and captions. Replicas share it when they see the same `uri`."""

    enabled: bool = True
    uri: str = Field("", description="folder or pyarrow.fs URI (s3://, gs://); empty = the user's cache folder")
    max_bytes: int = Field(
        512 * 2**20, ge=2**20, description="what was asked for longest ago goes first; 4 s of video are about 0.5 MB, their speech 0.2 MB"
    )
    memory_bytes: int = Field(32 * 2**20, ge=0, description="kept in each Mux replica as well")
    kept_hours: float = Field(24.0, gt=0, le=87_600, description="from when a text was spoken until what is kept of it is removed, captions too")
    prerendered_hours: float = Field(720.0, gt=0, le=87_600, description="the same of what was prerendered, from the last time it was")

    @property
    def place(self) -> str:
        """`uri`, or the folder that an empty one stands for."""
        return self.uri or str(cache_dir() / "utterances")


class ServerConfig(StrictModel):
    host: str = "127.0.0.1"
    port: int = Field(8001, ge=0, le=65_535)
    cors_origins: tuple[str, ...] = Field(
        (), description="other sites whose pages may use this service, such as https://app.example.com, also its WebSocket; * = every site"
    )
    hosts: tuple[str, ...] = Field(
        (), description="names by which this service is asked for, such as app.example.com; addresses and localhost always are; * = every name"
    )
    trusted_proxies: tuple[str, ...] = Field((), description="addresses and networks whose X-Forwarded-For says who calls, such as 10.0.0.0/8")
    fast_transport: bool = Field(True, description="HAProxy and gRPC between replicas, instead of Ray Serve's default proxy and object store")
    dashboard_port: int = Field(8265, ge=0, le=65_535)
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and not re.fullmatch(ORIGIN, origin):
                raise ValueError(f"an origin is scheme://host or scheme://host:port in small letters, without a path, or *; got {origin!r}")
        return origins

    @field_validator("hosts")
    @classmethod
    def _names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if host != "*" and not re.fullmatch(r"[a-z0-9]([a-z0-9.\-]*[a-z0-9])?", host):
                raise ValueError(f"a host is a name in small letters, without scheme and port, or *; got {host!r}")
        return hosts

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            ip_network(proxy)  # its ValueError says what is wrong
        return proxies

    @property
    def public(self) -> bool:
        """Whether other machines may reach it."""
        if self.host == "localhost":
            return False
        try:
            return not ip_address(self.host).is_loopback
        except ValueError:
            return True


class AccessConfig(StrictModel):
    """Who may use the service. Keys are made by `museserve keys create`; their file is looked at again while the service runs."""

    auth: Literal["none", "keys"] | None = Field(
        None, description="none = whoever reaches it; keys = who has a key or a session token; must be said where other machines may reach it"
    )
    keys_file: Path | None = Field(None, description="what `museserve keys` writes; None = keys.json in museserve's folder")
    token_s: int = Field(60, ge=5, le=3_600, description="how long a session token may be used, unless whoever makes it asks for less or more")
    token_max_s: int = Field(900, ge=5, le=86_400, description="the longest that may be asked for")

    @property
    def keys_path(self) -> Path:
        """`keys_file`, or what an absent one stands for."""
        return self.keys_file or cache_dir() / "keys.json"

    def check_said(self, where: str) -> None:
        """Raises ConfigError where nobody said who may use a service that other machines reach."""
        if self.auth is None:
            raise ConfigError(
                f"{where}, and access.auth does not say who may use it: keys = who has one (museserve keys create), none = whoever reaches it"
            )


class ProvenanceConfig(StrictModel):
    """What says of videos that they were generated. A certificate is the operator's own; without one the metadata alone says so."""

    metadata: bool = Field(True, description="IPTC's DigitalSourceType as XMP in finished films and HTTP streams")
    certificate: Path | None = Field(None, description="PEM, the signer's first, then what signed it; signs C2PA manifests")
    key: Path | None = Field(None, description="its private key, PEM (PKCS#8), readable by the service alone")
    algorithm: Literal["es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519"] = Field("es256", description="what the key signs by")
    timestamp_url: str | None = Field(None, description="an RFC 3161 server, so that signatures outlive the certificate; asked for each one")

    @model_validator(mode="after")
    def _both(self) -> ProvenanceConfig:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together: one of them is missing")
        return self


class LabelConfig(StrictModel):
    """The mark that a person sees on the pictures of finished films. Live sessions have the player's."""

    burn_in: Literal["auto", "always", "never"] = Field("auto", description="auto = where the law of `region` asks for it")
    region: str = Field(
        "", pattern="^([A-Z]{2})?$", description="where films are shown: KR = every film; EU or a member = those of an uploaded portrait or clip"
    )
    text: str = Field("", max_length=80, description='empty = "AI-generated", in Korea and of Korean speech "AI로 생성된 영상"')
    font: Path | None = Field(None, description="a TrueType or OpenType file for a text of your own with other letters than Latin ones")
    position: Literal["top-left", "top-right", "bottom-left", "bottom-right"] = "top-left"


class TracingConfig(StrictModel):
    """Traces by OpenTelemetry, from the request through every deployment."""

    enabled: bool = False
    exporter: Literal["otlp", "file"] = Field(
        "otlp",
        description="otlp = OTLP over HTTP, where OTEL_EXPORTER_OTLP_ENDPOINT says; file = JSON lines in MUSESERVE_SPANS_DIR, a file a process",
    )
    sampling_ratio: float = Field(0.1, ge=0, le=1, description="share of requests that begin a trace; a caller's traceparent decides for its own")


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


def cache_dir() -> Path:
    """Where prepared avatars lie unless the configuration says otherwise: `MUSESERVE_HOME`, else the user's cache folder."""
    home = os.environ.get("MUSESERVE_HOME")
    if home:
        return Path(home)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "museserve"


def spans_dir() -> Path:
    """Where traces lie that go to files: `MUSESERVE_SPANS_DIR`, else below `cache_dir`."""
    named = os.environ.get(SPANS_DIR)
    return Path(named) if named else cache_dir() / "spans"

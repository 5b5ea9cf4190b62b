"""What callers and operators meet: addresses, access, limits, sessions, what is kept, what films say of themselves, traces."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from configs.base import StrictModel, cache_dir
from museserve.errors import ConfigError

ORIGIN = r"^https?://([a-z0-9.\-]+|\[[0-9a-f:]+\])(:\d+)?$"  # as browsers say it


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
    fork_workers: bool = Field(
        False,
        description="experimental, on Linux: Ray's Python processes are forks of one that has imported everything; they outlive a killed launcher",
    )
    fast_transport: bool = Field(True, description="HAProxy and gRPC between replicas, instead of Ray Serve's default proxy and object store")
    dashboard_port: int = Field(0, ge=0, le=65_535, description="of Ray's dashboard, on this machine alone; 0 = any free one")
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

"""What speaks, draws and films: voices, lips, pictures and sound, avatars, model files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, model_validator

from configs.base import StrictModel
from museserve.timebase import SEGMENT_FRAMES


class OpenAIConfig(StrictModel):
    base_url: str | None = Field(None, description="any OpenAI-compatible server; None = OPENAI_BASE_URL or the public one")
    api_key: SecretStr | None = Field(None, description="None = OPENAI_API_KEY")
    model: str = "gpt-4o-mini-tts"
    timeout_s: float = Field(20.0, gt=0, description="longest wait between two pieces of audio")
    max_retries: int = Field(2, ge=0, le=10, description="tries again on 408, 409, 429, 5xx and connection errors, before any audio came")
    instructions: str | None = Field(None, description="how to speak, for models that take it")


class SupertonicConfig(StrictModel):
    """The natural voices that `museserve weights download --for voices` brings."""

    languages: tuple[str, ...] = Field(("ko",), description="base tags that they speak for `auto` where their files are there; others by name alone")
    steps: int = Field(8, ge=2, le=32, description="passes over a clause: fewer are faster and rougher; the makers take 5 to 12")


class SpeechConfig(StrictModel):
    engine: Literal["auto", "openai", "offline"] = Field("auto", description="auto = openai when a key is configured, else offline")
    on_openai_error: Literal["error", "fallback"] = Field(
        "error", description="fallback = an offline voice takes over, announced; error = the caller gets 502"
    )
    openai: OpenAIConfig = OpenAIConfig()
    supertonic: SupertonicConfig = SupertonicConfig()
    lexicon: Path | None = Field(None, description="extra pronunciations, YAML; read on top of the shipped ones")
    threads: int = Field(1, ge=1, le=16, description="threads of one offline synthesis")
    max_text_chars: int = Field(4_096, ge=1, description="longest text of a request, characters after trimming")
    first_clause_chars: int = Field(48, ge=8, description="the first piece to synthesise is cut at a clause border near this length")


class TranscriptionConfig(StrictModel):
    """A server that writes down recorded speech, by OpenAI's contract. What is recorded leaves the service only where one is set."""

    base_url: str | None = Field(None, description="any OpenAI-compatible server, https://api.openai.com/v1 too; None = nothing is written down")
    api_key: SecretStr | None = Field(None, description="None = OPENAI_API_KEY")
    model: str = "whisper-1"
    timeout_s: float = Field(60.0, gt=0, description="longest wait for a transcript")
    max_retries: int = Field(1, ge=0, le=10, description="tries again on 408, 409, 429, 5xx and connection errors")

    @property
    def chosen(self) -> bool:
        return self.base_url is not None


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
    at_once: int = Field(
        1, ge=1, le=4, description="batches a card is given before the first has come back; a first picture may wait for all of them"
    )


class LipSyncConfig(StrictModel):
    engine: Literal["auto", "musetalk", "animator"] = "auto"
    animator: AnimatorConfig = AnimatorConfig()
    musetalk: MuseTalkConfig = MuseTalkConfig()
    batch: BatchConfig = BatchConfig()
    avatar_cache_bytes: int = Field(512 * 2**20, ge=16 * 2**20, description="prepared avatars a replica keeps, least recently used first out")


class MediaConfig(StrictModel):
    crf: int = Field(20, ge=0, le=40, description="x264's quantiser of every picture; lower is better and larger. A noisy clip gets a higher one")
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium"] = "ultrafast"
    gestures: float = Field(1.0, ge=0, le=1.5, description="size of what a portrait's face does while it listens or thinks; 0 = nothing")
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

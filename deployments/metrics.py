"""What the service counts. Ray adds application, deployment and replica tags and exports each as `ray_museserve_...` for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import get_args

from ray.serve import metrics

from museserve.errors import SpeechEngineError, TextError
from museserve.messages import CacheHit

MS_BUCKETS: list[float] = [1, 2, 5, 10, 20, 50, 100, 150, 200, 300, 400, 600, 800, 1_200, 2_000, 5_000, 10_000]
FRAME_BUCKETS: list[float] = [1, 2, 4, 8, 16, 24, 32, 48, 64]


def counter(name: str, description: str, **values: Iterable[str]) -> metrics.Counter:
    """A counter that is there, as 0, from the start: else the first of anything would be missing from every rate.

    values: of each label, those that are known.
    """
    made = metrics.Counter(name, description, tag_keys=tuple(values))  # type: ignore[arg-type]  # any number of them
    for known in product(*values.values()):
        made._record(0, dict(zip(values, known, strict=True)))  # `inc` takes no 0
    return made


def takeovers(*lost: str) -> metrics.Counter:
    """Kept by whoever pulls the streams. lost: whose."""
    return counter("museserve_takeovers", "streams that broke off, and that another replica went on with", lost=lost)


class MuxMetrics:
    """Kept by each Mux replica."""

    def __init__(self) -> None:
        self.first_fragment_s = metrics.Histogram(
            "museserve_first_fragment_seconds", "request to first fragment", [b / 1e3 for b in MS_BUCKETS], tag_keys=("source",)
        )
        self.stage_ms = metrics.Histogram("museserve_stage_ms", "request to the first result of a stage", MS_BUCKETS, tag_keys=("stage",))
        self.queue_ms = metrics.Histogram("museserve_segment_wait_ms", "a segment's way to LipSync and back, without drawing", MS_BUCKETS)
        self.encode_ms = metrics.Histogram("museserve_encode_frame_ms", "composition and encoding, a frame", [0.5, 1, 2, 3, 4, 6, 8, 12, 20, 50])
        self.live = metrics.Gauge("museserve_live_utterances", "utterances being filmed")
        self.utterances = counter("museserve_utterances", "utterances ended", outcome=("finished", "cancelled", "refused", "busy", "failed"))
        self.frames = counter("museserve_frames", "frames sent", kind=("speaking", "idle"))
        self.underruns = counter("museserve_underruns", "pieces that were ready only after a viewer needed them")
        self.tight = counter("museserve_tight", "pieces that left a live stream with little in hand: for some seconds nobody else begins")
        self.cache = counter("museserve_cache", "spoken texts, by what the cache had of them", found=get_args(CacheHit))
        self.retries = counter("museserve_segment_retries", "segments sent again")
        self.hedged = counter("museserve_hedged_calls", "calls to LipSync that were late, and sent to a second replica", method=("listen", "render"))
        self.takeovers = takeovers("tts")


class LipSyncMetrics:
    """Kept by each LipSync replica."""

    def __init__(self) -> None:
        self._batch_frames = metrics.Histogram("museserve_batch_frames", "frames drawn in one batch", FRAME_BUCKETS)
        self._render_frame_ms = metrics.Histogram("museserve_render_frame_ms", "drawing, a frame", [0.2, 0.5, 1, 2, 3, 4, 6, 8, 12, 20, 50])
        self.listen_ms = metrics.Histogram("museserve_listen_ms", "conditioning for one stretch of speech", MS_BUCKETS)

    def drawn(self, took_ms: float, frames: int) -> None:
        """One batch."""
        self._batch_frames.observe(frames)
        self._render_frame_ms.observe(took_ms / frames)


class TTSMetrics:
    """Kept by each TTS replica."""

    def __init__(self) -> None:
        self.first_chunk_ms = metrics.Histogram("museserve_tts_first_chunk_ms", "request to the first sound", MS_BUCKETS, tag_keys=("engine",))
        self.errors = counter("museserve_tts_errors", "utterances that the speech engine failed", code=(SpeechEngineError.code, TextError.code))

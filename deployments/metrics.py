"""What the service counts. Ray adds application, deployment and replica tags and exports each as `ray_museserve_...` for Prometheus."""

from __future__ import annotations

from ray.serve import metrics

from deployments.ingress.sessions.protocol import Stats

_MS = [1, 2, 5, 10, 20, 50, 100, 150, 200, 300, 400, 600, 800, 1_200, 2_000, 5_000, 10_000]
_FRAMES = [1, 2, 4, 8, 16, 24, 32, 48, 64]


class MuxMetrics:
    """Kept by each Mux replica."""

    def __init__(self) -> None:
        self.first_fragment_s = metrics.Histogram(
            "museserve_first_fragment_seconds", "request to first fragment", [b / 1e3 for b in _MS], tag_keys=("source",)
        )
        self.stage_ms = metrics.Histogram("museserve_stage_ms", "request to the first result of a stage", _MS, tag_keys=("stage",))
        self.queue_ms = metrics.Histogram("museserve_segment_wait_ms", "a segment's way to LipSync and back, without drawing", _MS)
        self.encode_ms = metrics.Histogram("museserve_encode_frame_ms", "composition and encoding, a frame", [0.5, 1, 2, 3, 4, 6, 8, 12, 20, 50])
        self.live = metrics.Gauge("museserve_live_utterances", "utterances being filmed")
        self.utterances = metrics.Counter("museserve_utterances", "utterances ended", tag_keys=("outcome",))
        self.frames = metrics.Counter("museserve_frames", "frames sent", tag_keys=("kind",))
        self.underruns = metrics.Counter("museserve_underruns", "pieces that were ready only after a viewer needed them")
        self.cache = metrics.Counter("museserve_cache", "spoken texts, by what the cache had of them", tag_keys=("found",))
        self.retries = metrics.Counter("museserve_segment_retries", "segments sent again")


class LipSyncMetrics:
    """Kept by each LipSync replica."""

    def __init__(self) -> None:
        self.batch_frames = metrics.Histogram("museserve_batch_frames", "frames drawn in one batch", _FRAMES)
        self.render_frame_ms = metrics.Histogram("museserve_render_frame_ms", "drawing, a frame", [0.2, 0.5, 1, 2, 3, 4, 6, 8, 12, 20, 50])
        self.listen_ms = metrics.Histogram("museserve_listen_ms", "conditioning for one stretch of speech", _MS)


class TTSMetrics:
    """Kept by each TTS replica."""

    def __init__(self) -> None:
        self.first_chunk_ms = metrics.Histogram("museserve_tts_first_chunk_ms", "request to the first sound", _MS, tag_keys=("engine",))
        self.errors = metrics.Counter("museserve_tts_errors", "utterances that the speech engine failed", tag_keys=("code",))


class SessionMetrics:
    """Kept by each ingress replica: live conversations, and what their players tell with `stats`."""

    def __init__(self) -> None:
        self._live = metrics.Gauge("museserve_sessions", "live conversations", tag_keys=("connected",))
        self._queued = metrics.Gauge("museserve_session_queue", "utterances of all conversations that are not finished")
        self._first = metrics.Histogram(
            "museserve_session_first_fragment_seconds", "speak to first fragment", [b / 1e3 for b in _MS], tag_keys=("cached",)
        )
        self._outcomes = metrics.Counter("museserve_session_utterances", "utterances of conversations ended", tag_keys=("outcome",))
        self._interrupts = metrics.Counter("museserve_session_interrupts", "interruptions that stopped something")
        self._resumes = metrics.Counter("museserve_session_resumes", "connections that went on with a session")
        self._closes = metrics.Counter("museserve_session_closes", "connections ended", tag_keys=("code",))
        self._seen_first_ms = metrics.Histogram("museserve_player_first_frame_ms", "speak to first speaking picture painted, at the player", _MS)
        self._seen_interrupt_ms = metrics.Histogram("museserve_player_interrupt_ms", "interrupt to silence, at the player", _MS)
        self._seen = {
            name: metrics.Counter(f"museserve_player_{name}", described)
            for name, described in {
                "dry_outs": "times a player ran dry",
                "dry_ms": "milliseconds without a picture",
                "late_segments": "idle segments put into the middle of an utterance",
                "dropped_frames": "frames that players dropped",
                "painted_frames": "frames that players painted",
                "reconnects": "connections that players lost and made again",
            }.items()
        }
        self._in_queue = 0

    def sessions(self, connected: int, lost: int) -> None:
        self._live.set(connected, tags={"connected": "yes"})
        self._live.set(lost, tags={"connected": "no"})

    def first_fragment(self, seconds: float, cached: str) -> None:
        self._first.observe(seconds, tags={"cached": cached})

    def queued(self, change: int) -> None:
        self._in_queue += change
        self._queued.set(self._in_queue)

    def interrupted(self, utterances: int) -> None:
        self._interrupts.inc()

    def outcome(self, outcome: str) -> None:
        self._outcomes.inc(tags={"outcome": outcome})

    def resumed(self) -> None:
        self._resumes.inc()

    def closed(self, code: int) -> None:
        self._closes.inc(tags={"code": str(code)})

    def quality(self, stats: Stats) -> None:
        for ms in stats.first_frame_ms:
            self._seen_first_ms.observe(ms)
        for ms in stats.interrupt_ms:
            self._seen_interrupt_ms.observe(ms)
        for name, counter in self._seen.items():
            if (value := getattr(stats, name)) > 0:
                counter.inc(value)

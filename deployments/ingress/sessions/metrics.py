"""What one ingress replica counts of its conversations, and what their players tell of themselves with `stats`."""

from __future__ import annotations

from ray.serve import metrics

from deployments.ingress.sessions.protocol import CloseCode, Stats
from deployments.metrics import MS_BUCKETS, counter


class SessionMetrics:
    """Kept by each ingress replica."""

    def __init__(self) -> None:
        self._live = metrics.Gauge("museserve_sessions", "live conversations", tag_keys=("connected",))
        self._queued = metrics.Gauge("museserve_session_queue", "utterances of all conversations that are not finished")
        self._first = metrics.Histogram(
            "museserve_session_first_fragment_seconds", "speak to first fragment", [b / 1e3 for b in MS_BUCKETS], tag_keys=("cached",)
        )
        self._outcomes = counter(
            "museserve_session_utterances", "utterances of conversations ended", outcome=("finished", "interrupted", "failed", "ended")
        )
        self._interrupts = counter("museserve_session_interrupts", "interruptions that stopped something")
        self._resumes = counter("museserve_session_resumes", "connections that went on with a session")
        self._taken_over = counter("museserve_session_taken_over", "utterances that an earlier session had begun, taken over")
        self._moving = counter("museserve_session_moving", "sessions that were told to move to another replica")
        self._closes = counter("museserve_session_closes", "connections ended", code=map(str, (1005, 1006, *map(int, CloseCode))))
        self._seen_first_ms = metrics.Histogram(
            "museserve_player_first_frame_ms", "speak to first speaking picture painted, at the player", MS_BUCKETS
        )
        self._seen_interrupt_ms = metrics.Histogram("museserve_player_interrupt_ms", "interrupt to silence, at the player", MS_BUCKETS)
        self._seen = {
            name: counter(f"museserve_player_{name}", described)
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

    def interrupted(self) -> None:
        self._interrupts.inc()

    def outcome(self, outcome: str) -> None:
        self._outcomes.inc(tags={"outcome": outcome})

    def resumed(self) -> None:
        self._resumes.inc()

    def taken_over(self) -> None:
        self._taken_over.inc()

    def moving(self) -> None:
        self._moving.inc()

    def closed(self, code: int) -> None:
        self._closes.inc(tags={"code": str(code)})

    def quality(self, stats: Stats) -> None:
        for ms in stats.first_frame_ms:
            self._seen_first_ms.observe(ms)
        for ms in stats.interrupt_ms:
            self._seen_interrupt_ms.observe(ms)
        for name, seen in self._seen.items():
            if (value := getattr(stats, name)) > 0:
                seen.inc(value)

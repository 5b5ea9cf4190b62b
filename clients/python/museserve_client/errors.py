"""What goes wrong. `code` is for programs, the message for people.

MuseserveError
    ServiceError      the service refused or failed, by its own words
    UnreachableError  nobody answers there, or no longer
    ClosedError       the session is over, and cannot be begun anew
"""

from __future__ import annotations


class MuseserveError(Exception):
    """Anything that this package raises by itself, but ValueError for a call that cannot be meant."""


class ServiceError(MuseserveError):
    """The service's answer. status: of HTTP, None in a session. retry_after_s: when it may be tried again, where the service says."""

    def __init__(self, code: str, message: str, *, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.code, self.status, self.retry_after_s = code, status, retry_after_s

    def __str__(self) -> str:
        return f"{self.code}: {super().__str__()}"


class UnreachableError(MuseserveError):
    """No connection, or it broke in the middle of an answer."""


class ClosedError(MuseserveError):
    """close_code: of the WebSocket (docs/sessions.md), None where this side closed. code: the service's reason, where it gave one."""

    def __init__(self, message: str, *, close_code: int | None = None, code: str = "closed") -> None:
        super().__init__(message)
        self.close_code, self.code = close_code, code

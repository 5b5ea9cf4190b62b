"""Async client of museserve. `Client` is where to begin; docs/sessions.md of museserve tells what its messages mean."""

from museserve_client.client import Client, VideoStream
from museserve_client.errors import ClosedError, MuseserveError, ServiceError, UnreachableError
from museserve_client.messages import (
    Cue,
    Delayed,
    Event,
    Finished,
    Fragment,
    Interrupted,
    Part,
    Ready,
    Started,
    Waiting,
    Word,
    Words,
)
from museserve_client.session import Notice, Session
from museserve_client.utterance import Utterance

__version__ = "0.1.0"
__all__ = [
    "Client",
    "ClosedError",
    "Cue",
    "Delayed",
    "Event",
    "Finished",
    "Fragment",
    "Interrupted",
    "MuseserveError",
    "Notice",
    "Part",
    "Ready",
    "ServiceError",
    "Session",
    "Started",
    "UnreachableError",
    "Utterance",
    "VideoStream",
    "Waiting",
    "Word",
    "Words",
]

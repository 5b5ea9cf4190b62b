"""The voices that the tests of speech share."""

from __future__ import annotations

from tests.museserve.speech.conftest import espeak, hibari, piper

__all__ = ["espeak", "hibari", "piper"]

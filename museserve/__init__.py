"""Talking avatars as a service: speech, media, and the pipeline of an utterance."""

__version__ = "0.1.0"

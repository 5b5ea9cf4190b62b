"""The avatars that ship with the project: two rendered people (CC0 1.0), with their landmarks, so that nothing has to be detected."""

from __future__ import annotations

import hashlib
import io
import json
from functools import cache
from pathlib import Path

import numpy as np

from museserve.errors import EngineError, UnknownAvatarError
from musetalk.avatars.format import AvatarSource, Gender

BUILTIN_DIR = Path(__file__).parent / "shipped"
BUILTIN = ("interviewer_woman", "interviewer_man")
ALIASES = {"woman": "interviewer_woman", "man": "interviewer_man"}


def resolve(name: str) -> str:
    """The avatar id that a request's name stands for: "woman" and "man" are the shipped interviewers, every other name is itself."""
    return ALIASES.get(name, name)


@cache
def shipped_digest(avatar_id: str) -> str:
    """SHA-256 of a shipped portrait and its landmarks, without decoding them."""
    return hashlib.sha256(_read(avatar_id, "portrait.png") + _read(avatar_id, "landmarks.npy")).hexdigest()


def shipped_facts(avatar_id: str) -> tuple[str, Gender]:
    """Name and gender of a shipped avatar."""
    facts = json.loads(_read(avatar_id, "avatar.json"))
    return facts["name"], facts["gender"]


def shipped_portrait(avatar_id: str) -> AvatarSource:
    """A shipped avatar's source, already framed.

    Raises:
        UnknownAvatarError: no such avatar ships with the project.
        EngineError: the installation lacks its files, or they are damaged.
    """
    name, gender = shipped_facts(avatar_id)
    landmarks = np.load(io.BytesIO(_read(avatar_id, "landmarks.npy")), allow_pickle=False)
    if landmarks.shape != (478, 3):
        raise EngineError(f"the shipped avatar {avatar_id!r} is damaged; install the project again")
    return AvatarSource(
        id=avatar_id,
        name=name,
        gender=gender,
        source_sha256=shipped_digest(avatar_id),
        portrait_png=_read(avatar_id, "portrait.png"),
        landmarks=landmarks,
        builtin=True,
    )


def _read(avatar_id: str, name: str) -> bytes:
    if avatar_id not in BUILTIN:
        raise UnknownAvatarError(f"no avatar {avatar_id!r} ships with the project; these do: {', '.join(BUILTIN)}")
    try:
        return (BUILTIN_DIR / avatar_id / name).read_bytes()
    except OSError as error:
        raise EngineError(f"the shipped avatar {avatar_id!r} has lost its {name} ({error.strerror}); install the project again") from None

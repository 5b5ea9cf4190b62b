"""The avatars that ship with the project: two rendered people (CC0 1.0), with their landmarks, so that nothing has to be detected."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from museserve.errors import EngineError, UnknownAvatarError
from museserve.messages import ByteArray, FloatArray
from musetalk.avatars.format import Gender

BUILTIN_DIR = Path(__file__).parent / "shipped"
BUILTIN = ("interviewer_woman", "interviewer_man")
ALIASES = {"woman": "interviewer_woman", "man": "interviewer_man"}


@dataclass(frozen=True)
class ShippedPortrait:
    """portrait: RGB uint8 (p, p, 3), already framed; landmarks: float32 (478, 3) in its pixels."""

    id: str
    name: str
    gender: Gender
    portrait_png: bytes
    portrait: ByteArray
    landmarks: FloatArray
    sha256: str


def resolve(name: str) -> str:
    """The avatar id that a request's name stands for: "woman" and "man" are the shipped interviewers, every other name is itself."""
    return ALIASES.get(name, name)


def is_builtin(avatar_id: str) -> bool:
    return avatar_id in BUILTIN


@cache
def shipped_digest(avatar_id: str) -> str:
    """SHA-256 of a shipped portrait and its landmarks, without decoding them."""
    return hashlib.sha256(_read(avatar_id, "portrait.png") + _read(avatar_id, "landmarks.npy")).hexdigest()


def shipped_facts(avatar_id: str) -> tuple[str, Gender]:
    """Name and gender of a shipped avatar."""
    facts = json.loads(_read(avatar_id, "avatar.json"))
    return facts["name"], facts["gender"]


def shipped_portrait(avatar_id: str) -> ShippedPortrait:
    """A shipped avatar's source.

    Raises:
        UnknownAvatarError: no such avatar ships with the project.
        EngineError: the installation lacks its files, or they are damaged.
    """
    png = _read(avatar_id, "portrait.png")
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    landmarks = np.asarray(np.load(_path(avatar_id, "landmarks.npy"), allow_pickle=False), np.float32)
    if picture is None or picture.shape[0] != picture.shape[1] or landmarks.shape != (478, 3):
        raise EngineError(f"the shipped avatar {avatar_id!r} is damaged; install the project again")
    name, gender = shipped_facts(avatar_id)
    rgb = np.ascontiguousarray(picture[:, :, ::-1]).astype(np.uint8, copy=False)
    return ShippedPortrait(avatar_id, name, gender, png, rgb, landmarks, shipped_digest(avatar_id))


def _path(avatar_id: str, name: str) -> Path:
    if avatar_id not in BUILTIN:
        raise UnknownAvatarError(f"no avatar {avatar_id!r} ships with the project; these do: {', '.join(BUILTIN)}")
    return BUILTIN_DIR / avatar_id / name


def _read(avatar_id: str, name: str) -> bytes:
    path = _path(avatar_id, name)
    try:
        return path.read_bytes()
    except OSError as error:
        raise EngineError(f"the shipped avatar {avatar_id!r} has lost its {name} ({error.strerror}); install the project again") from None

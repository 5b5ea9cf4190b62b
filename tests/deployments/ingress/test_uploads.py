"""What `audio_path` may name."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.models import LimitsConfig
from deployments.ingress.uploads import read_media
from museserve.errors import MediaPathError


@pytest.fixture
def limits(tmp_path: Path) -> LimitsConfig:
    """A media root that is reached through a link, with a tenant's folder in it and a secret beside it."""
    root = tmp_path / "media"
    (root / "acme").mkdir(parents=True)
    (root / "q.wav").write_bytes(b"question")
    (root / "acme" / "own.wav").write_bytes(b"own")
    (tmp_path / "secret.wav").write_bytes(b"secret")
    (root / "link.wav").symlink_to(tmp_path / "secret.wav")
    (tmp_path / "linked").symlink_to(root)
    return LimitsConfig(media_root=tmp_path / "linked")


def test_a_path_in_the_media_root_is_read_absolute_or_relative(limits: LimitsConfig, tmp_path: Path) -> None:
    for path in ("q.wav", "./acme/../q.wav", str(tmp_path / "media" / "q.wav"), str(tmp_path / "linked" / "q.wav")):
        assert read_media(path, limits) == b"question", path
    assert read_media(str(tmp_path / "media" / "acme" / "own.wav"), limits, "acme") == b"own"


@pytest.mark.parametrize("path", ["{tmp}/secret.wav", "{tmp}/media/../secret.wav", "{tmp}/media/link.wav", "{tmp}/media", "{tmp}/media/none.wav"])
def test_an_absolute_path_leads_nowhere_else(limits: LimitsConfig, tmp_path: Path, path: str) -> None:
    with pytest.raises(MediaPathError, match="media root"):
        read_media(path.format(tmp=tmp_path), limits)
    with pytest.raises(MediaPathError):
        read_media(str(tmp_path / "media" / "q.wav"), limits, "acme")

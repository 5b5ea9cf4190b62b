"""Bringing the published model files into a local folder: from the hub, from releases or from a mirror, each checked before it has its name.

Sums are the published ones. Where none is known here, the hub's own is asked for; where the hub gives none either, the sum of what came is written
beside the file (`NAME.sha256`), so that later damage shows, though not whether the first download was right.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx2
import huggingface_hub as hub

from configs.models import WeightsConfig
from museserve.errors import WeightsError
from museserve.weights.catalogue import WeightFile
from museserve.weights.folder import RECORDED, FileState, WeightsFolder, repair_hint
from museserve.weights.transfer import BACKOFF_S, PART, Progress, RemoteFile, fetch

GITHUB = "https://github.com"


@dataclass(frozen=True)
class Downloaded:
    """fetched: False = a whole one was there. checked: the sum was compared with a published one; else it was only recorded."""

    name: str
    fetched: bool
    sha256: str | None
    checked: bool


def download(
    folder: WeightsFolder,
    file: WeightFile,
    *,
    again: bool = False,
    on_progress: Progress = lambda received, total: None,
    on_wait: Callable[[], None] = lambda: None,
    backoff_s: float = BACKOFF_S,
) -> Downloaded:
    """Download one file from the first of its sources that has it, unless it is there in its full size and not `again`.

    Raises:
        WeightsError: as `transfer.fetch`, with what to do; or the folder is a remote one.
    """
    if folder.local is None:
        raise WeightsError(
            f"{folder.uri} is not on this machine: download into a folder (museserve weights download --to FOLDER) and copy that into {folder.uri}"
        )
    status = folder.status(file)
    if status.state is FileState.PRESENT and not again:
        return Downloaded(status.name, False, None, False)
    target = folder.local / file.name
    failures: list[str] = []
    for source in (file.source, *file.mirrors):
        try:
            remote = remote_file(file, source, folder.config)
            digest = fetch(remote, target, on_progress=on_progress, on_wait=on_wait, backoff_s=backoff_s)
        except WeightsError as error:
            failures.append(str(error))
            continue
        if file.sha256 is None:
            _write_sum(target, digest)
        return Downloaded(file.name, True, digest, remote.sha256 is not None)
    settings = "other servers: weights.mirror, weights.releases"
    raise WeightsError(f"{file.name}: {'; '.join(failures)}. {repair_hint(file.name)}; {settings}")


def remote_file(file: WeightFile, source: str, config: WeightsConfig) -> RemoteFile:
    """Address, size and sum of `file` at `source`. Raises WeightsError: the hub lacks it, or cannot be asked."""
    if not source.startswith("hf:"):
        url = config.releases.rstrip("/") + source.removeprefix(GITHUB) if config.releases and source.startswith(GITHUB) else source
        return RemoteFile(url, file.bytes, file.sha256, version=file.sha256)
    # Not `hf_hub_download` (2.4): killed or given up, it starts again from the first byte, it compares no sum, and a file
    # has its name before we could.
    repository, _, revision = source.removeprefix("hf:").partition("@")
    url = hub.hf_hub_url(repository, file.remote, revision=revision or None, endpoint=config.mirror)
    if hub.is_offline_mode():
        raise WeightsError(f"{url} is not asked for: HF_HUB_OFFLINE is set")
    token = hub.get_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if file.sha256 is not None:
        return RemoteFile(url, file.bytes, file.sha256, file.sha256, headers)
    try:
        metadata = hub.get_hf_file_metadata(url, endpoint=config.mirror)
    except (httpx2.HTTPError, OSError) as error:
        raise WeightsError(f"{url} cannot be read: {_first_line(error)}") from None
    # Large files have their SHA-256 for a tag, small ones git's own sum.
    sha256 = metadata.etag if metadata.etag and re.fullmatch("[0-9a-f]{64}", metadata.etag) else None
    return RemoteFile(url, file.bytes or metadata.size, sha256, metadata.etag, headers)


def _write_sum(target: Path, digest: str) -> None:
    """Beside the file, in the form that `sha256sum -c` reads."""
    path = target.with_name(target.name + RECORDED)
    part = path.with_name(path.name + PART)
    try:
        part.write_text(f"{digest}  {target.name}\n", encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be written: {error.strerror}") from None


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]

"""Bringing the published model files into a local folder: from the hub, from releases or from a mirror, each checked before it has its name.

Sums are the published ones. Where none is known here, the hub's own is asked for; where the hub gives none either, the sum of what came is written
beside the file (`NAME.sha256`), so that later damage shows, though not whether the first download was right.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

import httpx2
import huggingface_hub as hub

from configs.models import WeightsConfig
from museserve.errors import WeightsError
from musetalk.weights.catalogue import WeightFile
from musetalk.weights.folder import RECORDED, FileState, WeightsFolder, mending
from musetalk.weights.transfer import BACKOFF_S, Progress, RemoteFile, fetch

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
    on_progress: Progress = lambda have, total: None,
    on_wait: Callable[[], None] = lambda: None,
    backoff_s: float = BACKOFF_S,
) -> Downloaded:
    """Bring one file, from the first of its places that gives it; nothing is done when it lies there in its full size, unless `again`.

    Raises:
        WeightsError: as `transfer.fetch`, with what to do; or the folder is a remote one.
    """
    if folder.local is None:
        raise WeightsError(
            f"{folder.uri} is not on this machine: download into a folder (museserve weights download --to FOLDER) and copy that into {folder.uri}"
        )
    found = folder.look(file)
    if found.state is FileState.PRESENT and not again:
        return Downloaded(found.name, False, None, False)
    target = folder.local / file.name
    refusals: list[str] = []
    for source in (file.source, *file.elsewhere):
        try:
            remote = remote_of(file, source, folder.config)
            digest = fetch(remote, target, on_progress=on_progress, on_wait=on_wait, backoff_s=backoff_s)
        except WeightsError as error:
            refusals.append(str(error))
            continue
        record = target.with_name(target.name + RECORDED)
        if file.sha256 is None:
            _record(record, digest, target.name)
        return Downloaded(file.name, True, digest, remote.sha256 is not None)
    raise WeightsError(f"{file.name}: {'; '.join(refusals)}. To mend it: {mending(file.name)}; other servers: weights.mirror, weights.releases")


def remote_of(file: WeightFile, source: str, config: WeightsConfig) -> RemoteFile:
    """Where to read `file` from, and how to know it. Raises WeightsError: the hub does not have it, or cannot be asked."""
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
        known = hub.get_hf_file_metadata(url, endpoint=config.mirror)
    except (httpx2.HTTPError, OSError) as error:
        raise WeightsError(f"{url} cannot be read: {_first_line(error)}") from None
    # Large files have their SHA-256 for a tag, small ones git's own sum.
    sha256 = known.etag if known.etag and re.fullmatch("[0-9a-f]{64}", known.etag) else None
    return RemoteFile(url, file.bytes or known.size, sha256, known.etag, headers)


def _record(path: os.PathLike[str], digest: str, name: str) -> None:
    """In the form that `sha256sum -c` reads."""
    part = f"{os.fspath(path)}.part"
    try:
        with open(part, "w", encoding="utf-8") as out:
            out.write(f"{digest}  {name}\n")
        os.replace(part, path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be written: {error.strerror}") from None


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]

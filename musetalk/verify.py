"""Whether a published file that lies in the folder is the right one and can be used. Works without PyTorch; what is inside is then not looked at."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from museserve.errors import MuseserveError
from museserve.weights.catalogue import VOICES, WeightFile
from museserve.weights.folder import FileState, FileStatus, WeightsFolder
from museserve.weights.transfer import Progress


@dataclass(frozen=True)
class Verdict:
    """problem: what must be mended and how, in one line; empty when all is well."""

    status: FileStatus
    problem: str


def skip_reason(folder: WeightsFolder) -> str:
    """Why `verify` does not read the tensors; empty when it can."""
    if folder.local is None:
        return "the folder is a remote one"
    return "" if importlib.util.find_spec("torch") else "PyTorch is not installed"


def verify(folder: WeightsFolder, file: WeightFile, on_progress: Progress = lambda received, total: None) -> Verdict:
    """Compare size and SHA-256, and read a file that is not condemned by them with its loader; not those of voices, whose sums are all known.

    on_progress: bytes whose sum is taken, of so many.
    """
    status = folder.verify(file, on_progress)
    problem = _problem(folder, status)
    if not problem and status.state is not FileState.MISSING and file not in VOICES and not skip_reason(folder):
        from musetalk.neural.inspection import check_file

        try:
            check_file(folder, file.name)
        except MuseserveError as error:
            problem = str(error)
    return Verdict(status, problem)


def _problem(folder: WeightsFolder, status: FileStatus) -> str:
    file, mend = status.file, folder.repair_hint(status.file.name)
    if status.state is FileState.PARTIAL:
        return f"{status.bytes:,} bytes where {status.variant.bytes:,} are expected. {mend}"
    if status.state is FileState.DAMAGED:
        return f"its SHA-256 is another than the {'published' if file.sha256 else 'recorded'} one. {mend}"
    return f"it is the {file.description}. {mend}" if status.state is FileState.MISSING and not file.optional else ""

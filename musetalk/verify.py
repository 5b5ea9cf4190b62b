"""Whether a published file that lies in the folder is the right one and can be used. Works without PyTorch; what is inside is then not looked at."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from museserve.errors import MuseserveError
from musetalk.weights.catalogue import WeightFile
from musetalk.weights.folder import FileState, Found, WeightsFolder, mending
from musetalk.weights.transfer import Progress


@dataclass(frozen=True)
class Verdict:
    """trouble: what must be mended and how, in one line; empty when all is well."""

    found: Found
    trouble: str


def not_looked_inside(folder: WeightsFolder) -> str:
    """Why `verify` cannot see the tensors; empty when it can."""
    if folder.local is None:
        return "the folder is a remote one"
    return "" if importlib.util.find_spec("torch") else "PyTorch is not installed"


def verify(folder: WeightsFolder, file: WeightFile, on_progress: Progress = lambda received, total: None) -> Verdict:
    """Compare size and SHA-256, and read a file that is not condemned by them with its loader.

    on_progress: bytes whose sum is taken, of so many.
    """
    found = folder.verify(file, on_progress)
    trouble = _trouble(found)
    # A network of the user's own has another sum than the published one, and may still be in order.
    readable = not trouble or folder.config.unpublished
    if readable and found.state is not FileState.MISSING and not not_looked_inside(folder):
        from musetalk.neural.inspection import examine

        try:
            examine(folder, file.name)
        except MuseserveError as error:
            trouble = "; ".join(filter(None, (trouble, str(error))))
    return Verdict(found, trouble)


def _trouble(found: Found) -> str:
    file, mend = found.file, f"To mend it: {mending(found.file.name)}"
    if found.state is FileState.PARTIAL:
        return f"{found.bytes:,} bytes where {found.expected_bytes:,} are expected. {mend}"
    if found.state is FileState.DAMAGED:
        return f"its SHA-256 is another than the {'published' if file.sha256 else 'recorded'} one. {mend}"
    return f"it is the {file.about}. {mend}" if found.state is FileState.MISSING and not file.optional else ""

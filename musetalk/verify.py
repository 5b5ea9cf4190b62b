"""Whether a published file that lies in the folder is the right one and can be used. Works without PyTorch; what is inside is then not looked at."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

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


def verify(folder: WeightsFolder, file: WeightFile, on_progress: Progress = lambda have, total: None) -> Verdict:
    """Compare size and SHA-256, and read the file with its loader. `on_progress` is told of the bytes whose sum is taken."""
    seen, total = 0, folder.look(file).bytes

    def count(n: int) -> None:
        nonlocal seen
        seen += n
        on_progress(seen, total)

    found = folder.verify_file(file, count)
    troubles = [_trouble(found)]
    if found.state is not FileState.MISSING and not not_looked_inside(folder):
        from musetalk.neural.inspection import faults

        troubles.append(faults(folder, file.name))
    return Verdict(found, "; ".join(filter(None, troubles)))


def _trouble(found: Found) -> str:
    file, mend = found.file, f"To mend it: {mending(found.file.name)}"
    if found.state is FileState.PARTIAL:
        return f"{found.bytes:,} bytes where {found.expected_bytes:,} are expected. {mend}"
    if found.state is FileState.DAMAGED:
        return f"its SHA-256 is another than the {'published' if file.sha256 else 'recorded'} one. {mend}"
    return f"it is the {file.about}. {mend}" if found.state is FileState.MISSING and not file.optional else ""

"""One target under atheris, which looks for inputs that reach new code: python -m tests.fuzz.guided TARGET [options of libFuzzer]

Begins with the kept corpus; what it finds beside it goes to the first folder that is named, if any.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path


def main() -> None:
    import atheris

    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["museserve", "deployments", "configs", "musetalk", "tests.fuzz"]):
        from tests.fuzz.targets import TARGETS
    from tests.fuzz.mutants import seeds

    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds(name)):
            (Path(folder) / f"{number}").write_bytes(seed)
        folders = [each for each in options if not each.startswith("-")]
        flags = [each for each in options if each.startswith("-")]
        atheris.Setup([sys.argv[0], *flags, *folders, folder], TARGETS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()

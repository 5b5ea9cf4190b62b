"""Short fuzzing of the parsers that are ours; `make fuzz` does it for long. The kept corpora hold what once failed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fuzz.mutants import mutant, seeds
from tests.fuzz.targets import CORPUS, MEDIA, TARGETS
from tests.fuzz.trial import faults

MUTANTS = 150
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_and_some_mutants_of_it(name: str) -> None:
    assert seeds(name)
    for data in seeds(name):
        TARGETS[name](data)
    for seed in range(15 if name in MEDIA else MUTANTS):
        TARGETS[name](mutant(name, seed))


def test_each_folder_of_the_corpus_has_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= set(TARGETS)


def test_a_mutant_is_made_by_its_seed_alone() -> None:
    assert mutant("text", 7) == mutant("text", 7)
    assert len({mutant("text", seed) for seed in range(50)}) > 30


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("raise KeyError('x')", "KeyError"),
        ("while True: pass", "stopped after 1 s"),
        ("bytearray(2 * 2**30)", "MemoryError"),
        ("__import__('os').kill(__import__('os').getpid(), 11)", "ended with -11"),
    ],
)
def test_a_trial_tells_what_raises_hangs_grows_or_dies(fault: str, said: str, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault is put into a target of the child by a module that Python imports at its start."""
    site = f"import tests.fuzz.targets as t\ndef bad(data):\n    if data != b'good':\n        {fault}\nt.TARGETS['names'] = bad\n"
    site += "import tests.fuzz.mutants as m\nm.seeds = lambda name: [b'good']\nm.mutant = lambda name, seed: b'bad' if seed == 1 else b'good'\n"
    (tmp_path / "sitecustomize.py").write_text(site)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), str(ROOT))))  # it runs before the folder that -m adds is there
    found = list(faults("names", 0, 3, seconds=1, memory_mib=512))
    assert [each["seed"] for each in found] == [1] and said in found[0]["fault"]

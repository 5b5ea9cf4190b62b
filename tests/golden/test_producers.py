"""Caches and stored avatars are told apart by versions that people raise: so a change of what is kept must not pass without that."""

from __future__ import annotations

import numpy as np
import pytest

from tests.golden.producers import PRODUCERS, path

HOW = "python -m tests.golden.producers {name}"


@pytest.mark.parametrize("name", PRODUCERS)
def test_output_changes_only_with_its_version(name: str) -> None:
    producer = PRODUCERS[name]
    with np.load(path(name)) as kept:
        recorded = str(kept["version"])
        if recorded.split()[1:] != producer.version.split()[1:]:
            pytest.skip(f"recorded with {recorded}; here {producer.version}, and so other keys")
        assert recorded == producer.version, f"the version was raised: {HOW.format(name=name)}"
        made = producer.make()
        assert made.keys() == set(kept.files) - {"version"}
        for part, limit in producer.limits.items():
            assert made[part].shape == kept[part].shape, f"{part} has another shape: raise the version, then {HOW.format(name=name)}"
            apart = np.abs(made[part].astype(np.float64) - kept[part].astype(np.float64)).max()
            assert apart <= limit, f"{part} differs by {apart:g}: raise the version, then {HOW.format(name=name)}"

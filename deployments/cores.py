"""How many cores a replica has: what Ray gave it, which Ray itself makes nobody keep to."""

from __future__ import annotations

import os

import ray

from museserve.runtime import cpu


def keep_to_own() -> None:
    """Pools that are made from now on have no more threads than this replica was given cores (`num_cpus`), and at least one.

    On one machine (`museserve serve`) replicas share all of its cores, and their `num_cpus` say nothing but how many fit.
    """
    if ray.is_initialized() and not os.environ.get(cpu.SHARED):
        cpu.keep_to(ray.get_runtime_context().get_assigned_resources().get("CPU", 0.0))  # type: ignore[no-untyped-call]

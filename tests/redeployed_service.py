"""`museserve serve` that replaces its ingress replicas, as a redeploy does, whenever a file appears; a stopping one serves on for `DRAIN_S`."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from museserve.app import local
from museserve.app.cli import main

REDEPLOY = "MUSESERVE_TEST_REDEPLOY"  # names the file; it is taken away when the new replicas answer
DRAIN_S = 12.0

_serve = local._serve


def serve_redeployed(config: Any, *args: Any) -> Iterator[str]:
    from ray import serve  # which reads its flags from the environment that is set by now

    import graph

    deployment, generation = graph._deployment, 1
    run, options = serve.run, dict[str, Any]()

    def remembered(app: Any, **given: Any) -> Any:
        options.update(given)
        return run(app, **given)

    def versioned(cls: type, key: str, *rest: Any, **more: Any) -> Any:
        version = str(generation) if key == "ingress" else "1"  # another one is what makes Serve replace replicas
        return deployment(cls, key, *rest, **more).options(version=version, _internal=True)

    def watch(file: Path, stopped: threading.Event) -> None:
        nonlocal generation
        while not stopped.wait(0.1):
            if file.exists():
                generation += 1
                run(graph.assemble(config), **options)
                file.unlink()

    stopped = threading.Event()
    watcher = threading.Thread(target=watch, args=(Path(os.environ[REDEPLOY]), stopped))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "_deployment", versioned)
        patch.setattr(serve, "run", remembered)
        patch.setenv("RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S", str(DRAIN_S))
        for url in _serve(config, *args):
            watcher.start()
            try:
                yield url
            finally:
                stopped.set()
                watcher.join()


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "_serve", serve_redeployed)
        main()

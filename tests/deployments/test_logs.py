from __future__ import annotations

import logging

import pytest

from deployments import logs


def test_lines_of_the_packages_go_where_serve_writes_with_their_level(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, str]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append((record.levelname, record.getMessage()))

    serve = logging.getLogger("ray.serve")
    for name in logs.PACKAGES:
        monkeypatch.setattr(logging.getLogger(name), "parent", logging.getLogger(name).parent)  # put back afterwards
    monkeypatch.setattr(serve, "handlers", [Keep()])
    logs.join_serve()
    before = serve.level
    serve.setLevel(logging.INFO)  # which also makes every logger look again at what is wanted
    logging.getLogger("musetalk.factory").warning("MuseTalk cannot run")
    logging.getLogger("museserve.media").info("encoded")
    logging.getLogger("museserve.media").debug("not wanted")
    serve.setLevel(before)
    assert written == [("WARNING", "MuseTalk cannot run"), ("INFO", "encoded")]

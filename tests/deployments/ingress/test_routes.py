"""The routes and the OpenAPI document tell the same, so that neither can grow alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route, WebSocketRoute

from configs.models import AppConfig
from deployments.ingress.ingress import Ingress
from deployments.ingress.openapi import document


class Handle:
    def options(self, **options: Any) -> Handle:
        return self


def middleware_of(route: Route) -> list[str]:
    """From the outside in."""
    names, app = [], route.app
    while hasattr(app, "_app"):
        names.append(type(app).__name__)
        app = app._app
    return names


@pytest.fixture
def ingress(tmp_path: Path) -> Ingress:
    handle: Any = Handle()
    return Ingress(AppConfig.model_validate({"avatars": {"uri": str(tmp_path)}}), handle, handle)


def test_every_route_is_documented_and_every_operation_is_routed(ingress: Ingress) -> None:
    routed = set()
    for route in ingress.routes():
        if isinstance(route, WebSocketRoute):
            routed.add((route.path, "get"))  # a handshake is a GET
        else:
            assert isinstance(route, Route) and route.methods
            routed |= {(route.path, method.lower()) for method in route.methods - {"HEAD"}}
    documented = {(path, verb) for path, item in document()["paths"].items() for verb in item if verb != "parameters"}
    assert routed - {("/openapi.json", "get")} == documented


def test_every_call_with_a_body_has_a_limit(ingress: Ingress) -> None:
    for route in ingress.routes():
        if isinstance(route, Route) and route.methods and "POST" in route.methods:
            assert "BodyLimit" in middleware_of(route), f"{route.path} reads as much as a caller sends"

"""The service answers anything that is made from its own OpenAPI document, or that comes near it, without a fault of its own."""

from __future__ import annotations

import pytest
import requests

from tests.conftest import Service
from tests.fuzz.http import Answered, document, faults_of, fuzz, operations

OPERATIONS = operations()


@pytest.mark.serve
@pytest.mark.parametrize("name", OPERATIONS)
def test_requests_made_from_the_document(service: Service, name: str) -> None:
    answered = Answered()
    fuzz(OPERATIONS[name], service.url, 4, 1, answered, mutants=4)
    assert answered.requests and not answered.faults, answered.faults


def test_every_operation_is_asked_but_the_websocket() -> None:
    assert len(OPERATIONS) == sum(len(set(path) - {"parameters"}) for path in document()["paths"].values())


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (500, b'{"error":{"code":"engine_failed","message":"x"}}', "500"),
        (400, b"Traceback (most recent call last)", "without a type"),
        (400, b'{"error":{"code":"bad_request","message":"no /tmp/x"}}', "insides"),
        (503, b'{"error":{"code":"busy","message":"full"}}', "without Retry-After"),
        (404, b"<html>", "without a type"),
    ],
)
def test_faults_are_seen(status: int, body: bytes, said: str) -> None:
    got = requests.Response()
    got.status_code = status
    request = requests.Request("GET", "http://127.0.0.1/").prepare()
    assert any(said in fault for fault in faults_of(request, got, body))
    got.status_code = 404
    assert not list(faults_of(request, got, b'{"error":{"code":"not_found","message":"Not Found: GET /"}}'))

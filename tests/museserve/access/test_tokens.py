"""Session tokens: what they let in, for how long, and that nobody makes or changes one without the secret."""

from __future__ import annotations

import base64
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from museserve.access.tokens import PREFIX, Grant, mint, read
from museserve.errors import UnauthorizedError

SECRET, OTHER = bytes(32), bytes(31) + b"\1"
PAGE = "https://app.example.com"


def grant(**over: object) -> Grant:
    told = {"tenant": "acme", "key": "0123456789ab", "expires": int(time.time()) + 60, "uses": 1, "avatar": "anna", "origin": PAGE}
    return Grant(**(told | over))  # type: ignore[arg-type]


def test_a_token_says_whom_it_was_made_for() -> None:
    caller = read(SECRET, mint(SECRET, grant()), PAGE).caller
    assert (caller.tenant, caller.key, caller.scopes, caller.uses, caller.avatar) == ("acme", "0123456789ab", frozenset({"speak"}), 1, "anna")
    assert caller.token and caller.token != read(SECRET, mint(SECRET, grant()), PAGE).caller.token, "each has an id of its own"


def test_it_fits_into_a_header_and_a_sub_protocol() -> None:
    assert set(mint(SECRET, grant())) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


def test_it_expires() -> None:
    with pytest.raises(UnauthorizedError, match="expired"):
        read(SECRET, mint(SECRET, grant(expires=int(time.time()))), PAGE)


def test_pages_of_other_origins_cannot_use_it_and_programs_say_no_origin() -> None:
    token = mint(SECRET, grant())
    with pytest.raises(UnauthorizedError, match="elsewhere"):
        read(SECRET, token, "https://elsewhere.example")
    assert read(SECRET, token, None)
    assert read(SECRET, mint(SECRET, grant(origin="")), "https://elsewhere.example")


def test_another_secret_made_it() -> None:
    with pytest.raises(UnauthorizedError, match="no session token"):
        read(SECRET, mint(OTHER, grant()), PAGE)


def test_a_changed_payload_is_none() -> None:
    payload, _, signature = mint(SECRET, grant()).removeprefix(PREFIX).partition(".")
    told = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    told[0] = "other"
    forged = base64.urlsafe_b64encode(json.dumps(told).encode()).decode().rstrip("=")
    with pytest.raises(UnauthorizedError):
        read(SECRET, f"{PREFIX}{forged}.{signature}", PAGE)


@given(st.text())
def test_anything_else_is_refused_and_nothing_breaks(text: str) -> None:
    for token in (text, PREFIX + text, f"{PREFIX}{text}.{text}"):
        with pytest.raises(UnauthorizedError):
            read(SECRET, token, None)

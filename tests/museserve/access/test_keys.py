"""Keys: what is kept of them, who is let in, and what changes while a service runs."""

from __future__ import annotations

import json
import os
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from museserve.access import keys
from museserve.access.keys import Keys, create_key, read_keys, revoke_key
from museserve.errors import ConfigError, RequestError, UnauthorizedError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "secret" / "keys.json"


@pytest.fixture(autouse=True)
def looked_at_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "LOOK_S", 0.0)


def test_a_key_stands_for_its_tenant_and_scopes(file: Path) -> None:
    key, stored = create_key(file, "acme", ["speak"])
    caller = Keys(file).caller(key)
    assert (caller.tenant, caller.key, caller.scopes, caller.token) == ("acme", stored.id, frozenset({"speak"}), "")


def test_the_key_itself_is_not_kept_and_others_cannot_read_what_is(file: Path) -> None:
    key, _ = create_key(file, "acme", ["speak"])
    kept = file.read_text()
    assert key not in kept and key[17:] not in kept
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(key[17:]) == 43, "32 random bytes"


@pytest.mark.parametrize("change", ["last", "id", "cut", "longer", "empty", "unprintable"])
def test_what_is_nearly_a_key_is_none(file: Path, change: str) -> None:
    key, _ = create_key(file, "acme", ["speak"])
    other, _ = create_key(file, "acme", ["speak"])
    wrong = {
        "last": key[:-1] + ("A" if key[-1] != "A" else "B"),
        "id": other[:17] + key[17:],
        "cut": key[:-1],
        "longer": key + "A",
        "empty": "",
        "unprintable": key + "\udcff",
    }[change]
    with pytest.raises(UnauthorizedError, match="no key of the service"):
        Keys(file).caller(wrong)


def test_two_keys_of_a_tenant_are_valid_side_by_side_until_one_is_revoked(file: Path) -> None:
    old, _ = create_key(file, "acme", ["speak"])
    known = Keys(file)
    new, _ = create_key(file, "acme", ["speak"])
    assert known.caller(old).tenant == known.caller(new).tenant == "acme"
    old_id = known.caller(old).key
    revoke_key(file, old_id)
    with pytest.raises(UnauthorizedError, match=f"{old_id} is revoked"):
        known.caller(old)
    assert not known.valid(old_id) and known.caller(new)


def test_a_key_expires(file: Path) -> None:
    key, stored = create_key(file, "acme", ["speak"], days=1)
    assert Keys(file).caller(key)
    raw = json.loads(file.read_text())
    raw["keys"][0]["expires"] = (datetime.now(timezone.utc) - timedelta(seconds=1)).isoformat()
    file.write_text(json.dumps(raw))
    known = Keys(file)
    with pytest.raises(UnauthorizedError, match="expired"):
        known.caller(key)
    assert not known.valid(stored.id)


def test_a_file_that_goes_wrong_or_away_changes_nothing(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    key, _ = create_key(file, "acme", ["speak"])
    known = Keys(file)
    file.write_text("{")
    assert known.caller(key).tenant == "acme" and "stay as they were" in caplog.text
    file.unlink()
    assert known.caller(key).tenant == "acme"
    assert key not in caplog.text


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"token_secret": "short"}', '{"token_secret": "' + 64 * "a" + '", "keys": [{"id": 1}]}'])
def test_a_service_does_not_start_with_a_file_that_is_none(file: Path, content: str | None) -> None:
    file.parent.mkdir()
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=r"keys\.json"):
        Keys(file)


def test_a_file_without_a_key_lets_nobody_in_so_it_is_refused(file: Path) -> None:
    file.parent.mkdir()
    file.write_text(json.dumps({"token_secret": 64 * "a", "keys": []}))
    with pytest.raises(ConfigError, match="museserve keys create"):
        Keys(file)


@pytest.mark.parametrize(
    ("tenant", "scopes", "days"),
    [("Acme", ["speak"], None), ("a.b", ["speak"], None), ("", ["speak"], None), ("a", ["root"], None), ("a", ["speak"], 0)],
)
def test_what_makes_no_key(file: Path, tenant: str, scopes: list[str], days: float | None) -> None:
    with pytest.raises(RequestError):
        create_key(file, tenant, scopes, days)
    assert not file.exists()


def test_revoking_what_is_not_there_names_what_is(file: Path) -> None:
    _, stored = create_key(file, "acme", ["speak"])
    with pytest.raises(RequestError, match=stored.id):
        revoke_key(file, "000000000000")


def test_a_write_that_fails_leaves_the_file_as_it_was(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_key(file, "acme", ["speak"])
    before = read_keys(file)

    def fails(source: object, target: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="no room"):
        create_key(file, "acme", ["speak"])
    assert read_keys(file) == before and {path.name for path in file.parent.iterdir()} <= {"keys.json", "keys.json.lock"}

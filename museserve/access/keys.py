"""API keys: made once, kept as hashes in a file that the service looks at again when it changes.

A key is `msk_<id>_<secret>`. The secret is 32 random bytes, so one round of SHA-256 is as good as a slow hash: nobody can try
all of them, and there is no dictionary. The file also has the secret that session tokens are signed with: keep it as one keeps a password.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path

from filelock import FileLock
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from museserve.access.caller import SCOPES, TENANT, Caller, Scope
from museserve.errors import ConfigError, RequestError, UnauthorizedError

logger = logging.getLogger(__name__)

PREFIX = "msk_"
KEY = re.compile(r"msk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
LOOK_S = 1.0  # between two looks whether the file has changed
NEVER = hashlib.sha256(b"").hexdigest()  # compared with where no key has the id, so that the time tells nothing


class StoredKey(BaseModel):
    """A key as it is kept. sha256: of the whole key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    tenant: str = Field(pattern=rf"^{TENANT.pattern}$")
    scopes: frozenset[Scope] = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created: AwareDatetime
    expires: AwareDatetime | None = None
    revoked: AwareDatetime | None = None
    name: str = Field("", max_length=100)

    @property
    def state(self) -> str:
        """valid, expired or revoked."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= datetime.now(timezone.utc) else "valid"


class KeysFile(BaseModel):
    """token_secret: hexadecimal, signs session tokens of every replica."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token_secret: str = Field(pattern=r"^[0-9a-f]{64}$")
    keys: tuple[StoredKey, ...] = ()


class Keys:
    """The keys of a file, as it is now. A file that becomes wrong or goes away is told in the log, and what it said last holds.

    Raises ConfigError, when made: the file is missing or wrong, or has no key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _state(path)
        self._take(read_keys(path))
        if not self._keys:
            raise ConfigError(f"access.keys_file {path} has no key: make one with museserve keys create")
        self._looked = time.monotonic()

    def caller(self, key: str) -> Caller:
        """Who has this key. Raises UnauthorizedError."""
        self._look()
        parts = KEY.fullmatch(key)
        stored = self._keys.get(parts[1]) if parts else None
        given = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        known = hmac.compare_digest(given, stored.sha256 if stored else NEVER)
        if stored is None or not known:
            raise UnauthorizedError("this is no key of the service")
        if stored.state != "valid":
            raise UnauthorizedError(f"the key {stored.id} is {stored.state}; ask for a new one")
        return Caller(stored.tenant, stored.id, stored.scopes)

    def valid(self, key_id: str) -> bool:
        """Whether the key of this id still lets anybody in."""
        self._look()
        stored = self._keys.get(key_id)
        return stored is not None and stored.state == "valid"

    @property
    def token_secret(self) -> bytes:
        return self._token_secret

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        try:
            seen = _state(self._path)
            if seen != self._seen:
                self._seen = seen
                self._take(read_keys(self._path))
                logger.info("the keys were read again: %d", len(self._keys))
        except ConfigError as error:
            logger.error("the keys stay as they were: %s", error)

    def _take(self, file: KeysFile) -> None:
        self._keys = {key.id: key for key in file.keys}
        self._token_secret = bytes.fromhex(file.token_secret)


def read_keys(path: Path) -> KeysFile:
    """Raises ConfigError: it is missing, cannot be read or is no file of keys. The message has nothing of what is in it."""
    try:
        return KeysFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"access.keys_file {path} cannot be read: {error.strerror}; museserve keys create makes it") from None
    except ValidationError as error:
        where = ", ".join(sorted({".".join(map(str, each["loc"])) or "the whole" for each in error.errors()}))
        raise ConfigError(f"access.keys_file {path} is no file of keys; wrong: {where}") from None


def create_key(path: Path, tenant: str, scopes: Iterable[str], days: float | None = None, name: str = "") -> tuple[str, StoredKey]:
    """A new key, which is shown this once, and what the file keeps of it; the file is made where it is missing.

    Raises RequestError, ConfigError.
    """
    wanted = frozenset(scopes)
    if unknown := wanted - set(SCOPES):
        raise RequestError(f"{', '.join(sorted(unknown))}: no such scope; there are {', '.join(SCOPES)}")
    if not TENANT.fullmatch(tenant):
        raise RequestError(f"{tenant!r} is no name of a tenant: up to 32 of a-z, 0-9, - and _, beginning with a letter or digit")
    if days is not None and days <= 0:
        raise RequestError(f"a key must last for more than 0 days, got {days:g}")
    now = datetime.now(timezone.utc).replace(microsecond=0)
    key_id = secrets.token_hex(6)
    key = f"{PREFIX}{key_id}_{secrets.token_urlsafe(32)}"
    stored = StoredKey.model_validate(
        {
            "id": key_id,
            "tenant": tenant,
            "scopes": wanted,
            "sha256": hashlib.sha256(key.encode()).hexdigest(),
            "created": now,
            "expires": None if days is None else now + timedelta(days=days),
            "name": name,
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(path.name + ".lock"), mode=0o600):
        there = read_keys(path) if path.exists() else KeysFile(token_secret=secrets.token_hex(32))
        _write(path, there.model_copy(update={"keys": (*there.keys, stored)}))
    return key, stored


def revoke_key(path: Path, key_id: str) -> StoredKey:
    """A key that lets nobody in from now on, nor a token that was made with it. Raises RequestError, ConfigError."""
    with FileLock(path.with_name(path.name + ".lock"), mode=0o600):
        file = read_keys(path)
        found = next((key for key in file.keys if key.id == key_id), None)
        if found is None:
            raise RequestError(f"there is no key {key_id!r}; known: {', '.join(key.id for key in file.keys) or 'none'}")
        revoked = found.model_copy(update={"revoked": found.revoked or datetime.now(timezone.utc).replace(microsecond=0)})
        _write(path, file.model_copy(update={"keys": tuple(revoked if key.id == key_id else key for key in file.keys)}))
    return revoked


def _write(path: Path, file: KeysFile) -> None:
    """Whole or not at all; for its owner alone."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(json.dumps(file.model_dump(mode="json", exclude_none=True), indent=1) + "\n")
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _state(path: Path) -> tuple[int, int, int]:
    """What changes with the file. Raises ConfigError."""
    try:
        stat = path.stat()
    except OSError as error:
        raise ConfigError(f"access.keys_file {path} cannot be read: {error.strerror}; museserve keys create makes it") from None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size

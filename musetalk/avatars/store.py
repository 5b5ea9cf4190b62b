"""Where prepared avatars lie: a local folder, S3 or GCS behind one class, and a bounded cache of the open ones.

`files` has what lies there and how, `opened` the cache, `leases` how an avatar of one request is held, or one that is being made.

Of a remote store, which version is current is known for some seconds, and files are copied to this machine's disk (`LocalCopies`).
While it does not answer, avatars that are known here go on as they were last seen.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow.fs as pafs
from filelock import Timeout

from museserve.errors import ConflictError, EngineError, StoreError, UnknownAvatarError
from museserve.messages import AvatarRef
from museserve.runtime import storage
from musetalk.avatars.builtin import BUILTIN
from musetalk.avatars.current import CurrentVersions
from musetalk.avatars.files import CURRENT, META, StoredFiles
from musetalk.avatars.format import (
    ID_PATTERN,
    VERSION_PATTERN,
    Avatar,
    AvatarMeta,
    PreparedAvatar,
    check_id,
    is_one_off,
    name_of,
    tenant_of,
)
from musetalk.avatars.leases import FOLDER as LEASES
from musetalk.avatars.leases import Kept, Leases, new_owner
from musetalk.avatars.opened import OpenAvatars

logger = logging.getLogger(__name__)

TOUCH_S = 60.0  # between two marks that a version is in use
TOLD_IDS = 20  # of those that one may have meant
WATCH_S = 30.0  # within which what was deleted elsewhere is let go, and what a lease no longer holds is removed
WAIT_S = 0.5  # between two looks whether somebody else has made an avatar


class AvatarStore(StoredFiles):
    """Thread-safe. Several processes may use one store at the same time.

    Args:
        uri: folder, or a `pyarrow.fs` URI (file://, s3://, gs://); "" = the user's cache folder.
        cache_bytes: open avatars are dropped, least recently used first, above this many bytes of opened files. Mapped files count
            in full, although processes share their pages. The avatar in use is always kept.
        max_avatars: of one tenant; `save` of a further id is refused.
        ttl_s: how long it is taken for known which version is current in a remote store; a folder is looked at each time.
        copies: where files of a remote store are copied to, up to copies_bytes; None = they are read into memory.
        filesystem: a `pyarrow.fs.FileSystem` to use instead of the one `uri` names; `uri` is then a path in it.
    Raises:
        ConfigError: the URI names no file system.
    """

    def __init__(
        self,
        uri: str = "",
        cache_bytes: int = 512 * 2**20,
        *,
        max_avatars: int = 200,
        ttl_s: float = 0.0,
        copies: Path | None = None,
        copies_bytes: int = 2 * 2**30,
        filesystem: Any = None,
    ) -> None:
        super().__init__(uri, filesystem, copies, copies_bytes, lambda avatar_id: self._current.forget(avatar_id))
        self._max_avatars = max_avatars
        self._leases = Leases(self._fs, self._root, folders=self._renames)
        self._current = CurrentVersions(0.0 if self._local_root is not None else ttl_s, self._read_current_meta, self._copied_current_meta)
        self._opened = OpenAvatars(cache_bytes, lambda ref: self._open(ref), self._touch)
        self._touched: dict[AvatarRef, float] = {}
        self._when_gone: list[Callable[[AvatarRef], object]] = []

    def load(self, avatar_id: str, version: str | None = None) -> Avatar:
        """An avatar from the cache or the store; without `version` the current one.

        With a version a cached avatar costs no I/O. Threads that ask for the same avatar at once load it once.

        Raises:
            UnknownAvatarError: no such avatar, or no such version of it.
            EngineError: its files are damaged or of another format. StoreError: the store cannot be read.
        """
        if version is not None:
            return self._opened.get(AvatarRef(check_id(avatar_id), _check_version(avatar_id, version)))
        return self._opened.get(self.resolve(avatar_id))

    def resolve(self, avatar_id: str) -> AvatarRef:
        """The current version of an avatar. Raises as `load`."""
        return self.meta(avatar_id).ref

    def meta(self, avatar_id: str) -> AvatarMeta:
        """What is known of the current version; at most one small read. Raises as `load`."""
        meta = self._current.get(check_id(avatar_id))
        if meta is None:
            raise UnknownAvatarError(f"there is no avatar {name_of(avatar_id)!r}; known: {', '.join(self._known(avatar_id)) or 'none'}")
        return meta

    def seen_anew(self, avatar_id: str) -> None:
        """What is current is read when it is asked for next."""
        self._current.forget(check_id(avatar_id))

    def _known(self, avatar_id: str) -> list[str]:
        """What whoever asks for this id may have meant: nothing of other tenants, and nothing that is one request's."""
        tenant = tenant_of(avatar_id)
        return [name_of(known) for known in self.ids() if tenant_of(known) == tenant or known in BUILTIN][:TOLD_IDS]

    def exists(self, avatar_id: str) -> bool:
        """Looked up anew. Raises EngineError."""
        with suppress(UnknownAvatarError):
            return self._read_current_meta(check_id(avatar_id)) is not None
        return False

    def ids(self) -> list[str]:
        """Sorted names of the avatars that have a current version, one-off ones left out. Raises StoreError."""
        with self._access("read", "list"):
            # A store without folders is listed at once; some keep the empty folder of an avatar that was deleted.
            entries = self._fs.get_file_info(pafs.FileSelector(self._root, allow_not_found=True, recursive=not self._renames))
            if self._renames:
                folders = [entry.path for entry in entries if entry.type == pafs.FileType.Directory]
                entries = self._fs.get_file_info([f"{folder}/{CURRENT}" for folder in folders])
        paths = (PurePosixPath(entry.path) for entry in entries if entry.type == pafs.FileType.File)
        names = (path.parent.name for path in paths if path.name == CURRENT)
        return sorted(name for name in names if ID_PATTERN.fullmatch(name) and not is_one_off(name))

    def list(self, wanted: Callable[[str], bool] = lambda avatar_id: True) -> list[AvatarMeta]:
        """The current version of every avatar whose id is `wanted`, built-in ones first, then by id.

        One that is damaged is left out and told in the log.

        Raises:
            StoreError: the store cannot be read.
        """
        names = self.ids()
        if self._copies is not None:
            self._copies.keep_only(names)
        names = [name for name in names if wanted(name)]
        if not names:
            return []
        with ThreadPoolExecutor(min(16, len(names))) as pool:
            metas = [meta for meta in pool.map(self._listed, names) if meta is not None]
        return sorted(metas, key=lambda meta: (not meta.builtin, meta.id))

    def check_room(self, avatar_id: str) -> None:
        """Raises ConflictError when one more avatar does not fit. An id that exists always fits, and one that soon goes."""
        if is_one_off(avatar_id):
            return
        names = [name for name in self.ids() if tenant_of(name) == tenant_of(avatar_id)]
        if avatar_id not in names and len(names) >= self._max_avatars:
            raise ConflictError(f"the store holds {len(names)} avatars and at most {self._max_avatars} are kept: delete one first")

    def save(self, prepared: PreparedAvatar) -> AvatarRef:
        """Write a version and make it current. Writing what is already there changes nothing.

        Raises:
            ConflictError: the store is full.
            EngineError: the store cannot be written; nothing of the version is visible then.
        """
        ref = AvatarRef(check_id(prepared.id), _check_version(prepared.id, prepared.version))
        if not prepared.builtin:
            self.check_room(ref.id)
        with self._access("written", ref.id):
            meta = self._stored_or_none(ref)
            if meta is None or not self._intact(meta):
                meta = self._write_version(prepared)
            self._publish(meta)
            if self._renames:
                self._remove_stale(ref.id)
        self._current.put(meta)
        self._copy_json(meta, ref.id, CURRENT)
        return ref

    def delete(self, avatar_id: str) -> None:
        """Remove an avatar with all its versions, also one that is damaged.

        Whoever draws it just now keeps it until then; other processes let it go within `WATCH_S`, and may know it for the time to live.

        Raises:
            UnknownAvatarError: no such avatar.
            ConflictError: it ships with the project.
        """
        self._current.forget(check_id(avatar_id))
        try:
            builtin = self.meta(avatar_id).builtin
        except (UnknownAvatarError, StoreError):
            raise
        except EngineError as error:
            logger.warning("a damaged avatar is deleted: %s", error)
            builtin = avatar_id in BUILTIN
        if builtin:
            raise ConflictError(f"{avatar_id!r} ships with the project and is not deleted")
        self._remove(avatar_id)

    def _remove(self, avatar_id: str) -> None:
        with self._access("written", avatar_id):
            with suppress(FileNotFoundError):
                self._fs.delete_file(self._path(avatar_id, CURRENT))  # first: from here on nobody finds it
            with suppress(FileNotFoundError):
                self._fs.delete_dir(self._path(avatar_id))
        self._current.forget(avatar_id)
        if self._copies is not None:
            self._copies.drop(avatar_id)
        self._let_go([ref for ref in self._opened.refs() if ref.id == avatar_id])

    # --- held for a while ----------------------------------------------------------------------------------------------

    @contextmanager
    def one_off(self, avatar_id: str) -> Iterator[None]:
        """Hold an avatar of one request from before it is made; then it is removed. When this process dies, `sweep` does it.

        Raises StoreError.
        """
        by = new_owner()
        with self._access("written", avatar_id):
            self._leases.write(avatar_id, by)
        kept = Kept(lambda: self._leases.write(avatar_id, by), avatar_id)
        try:
            yield
        finally:
            kept.end()
            with suppress(StoreError):  # the log has it; the lease ends, and it is swept
                self._remove(avatar_id)
                self._leases.remove(avatar_id)

    def sweep(self) -> Sequence[str]:
        """Remove one-off avatars that nobody holds any more; which they were. Raises StoreError."""
        with self._access("read", "leases"):
            entries = self._fs.get_file_info(pafs.FileSelector(self._root, allow_not_found=True))
            found = {name for entry in entries if is_one_off(name := PurePosixPath(entry.path).name)}
            found |= {avatar_id for avatar_id in self._leases.ids() if is_one_off(avatar_id)}
            ended = sorted(avatar_id for avatar_id in found if not self._leases.holds(avatar_id))
        for avatar_id in ended:
            self._remove(avatar_id)
            self._leases.remove(avatar_id)
        return ended

    @contextmanager
    def making(self, avatar_id: str, *, wait: bool = True) -> Iterator[None]:
        """Be the only one, of all processes and machines, that makes this avatar; the others wait, or are refused.

        Raises:
            ConflictError: somebody else does, and wait is False. StoreError.
        """
        refused = ConflictError(f"avatar {avatar_id!r} is being prepared just now; wait for it or choose another id")
        if self._local_root is not None:  # the system gives a file lock back when its holder dies
            with self._access("written", avatar_id):
                (self._local_root / LEASES).mkdir(mode=0o700, parents=True, exist_ok=True)
                held = storage.locked(self._local_root / LEASES / avatar_id, wait=wait)
                try:
                    held.__enter__()
                except Timeout:
                    raise refused from None
            try:
                yield
            finally:
                held.__exit__(None, None, None)
            return
        by, name = new_owner(), f"{avatar_id}.making"
        with self._access("written", avatar_id):
            while not self._leases.claim(name, by):
                if not wait:
                    raise refused
                time.sleep(WAIT_S)
        kept = Kept(lambda: self._leases.write(name, by), avatar_id)
        try:
            yield
        finally:
            kept.end()
            self._leases.remove(name)

    # --- what was deleted elsewhere --------------------------------------------------------------------------------------

    def watch(self, *, sweep: bool = False) -> None:
        """Let go within `WATCH_S` of what others delete, from a thread of its own; sweep: and remove what no lease holds."""
        threading.Thread(target=_watch, args=(weakref.ref(self), sweep), name="avatars", daemon=True).start()

    def when_gone(self, told: Callable[[AvatarRef], object]) -> None:
        """`told` is called with each open version that is let go because it was deleted."""
        self._when_gone.append(told)

    def let_go(self) -> Sequence[AvatarRef]:
        """Close open versions that are no longer in the store, so that the disk gets their bytes back; which they were.

        Raises StoreError.
        """
        held = self._opened.refs()
        if not held:
            return []
        with self._access("read", "list"):
            files = self._fs.get_file_info([self._path(ref.id, ref.version, META) for ref in held])
        gone = [ref for ref, file in zip(held, files, strict=True) if file.type == pafs.FileType.NotFound]
        for avatar_id in {ref.id for ref in gone}:
            self._current.forget(avatar_id)
        self._let_go(gone)
        return gone

    def _let_go(self, gone: Sequence[AvatarRef]) -> None:
        self._opened.forget(gone)
        for ref in gone:
            for told in self._when_gone:
                told(ref)

    def holds(self, ref: AvatarRef) -> bool:
        """Whether this version is the current one and all its files hold what was written. Reads them all, from the store.

        Raises:
            StoreError: the store cannot be read.
        """
        try:
            meta = self._read_current_meta(ref.id)
        except StoreError:
            raise
        except EngineError:
            return False
        return meta is not None and meta.version == ref.version and self._intact(meta)

    def _open(self, ref: AvatarRef) -> Avatar:
        meta = None if self._local_root is not None else self._meta_at_hand(ref)
        if meta is None:
            with self._access("read", ref.id):
                meta = self._stored_meta(ref)
            if meta is not None:
                self._copy_json(meta, ref.id, ref.version, META)
        if meta is None:
            raise UnknownAvatarError(f"avatar {ref.id!r} has no version {ref.version!r}; it was deleted or made again")
        return Avatar(meta, lambda name, expected: self._open_file(ref, name, expected), self._opened.trim)

    def _touch(self, ref: AvatarRef) -> None:
        """So that its copies are not taken for old while they are served from here."""
        now = time.monotonic()
        if self._copies is not None and now - self._touched.get(ref, -TOUCH_S) >= TOUCH_S:
            self._touched = {known: at for known, at in self._touched.items() if known in self._opened} | {ref: now}
            self._copies.touch(ref)

    def _meta_at_hand(self, ref: AvatarRef) -> AvatarMeta | None:
        """A version's metadata without a request, which never changes."""
        meta = self._current.peek(ref.id)
        if (meta is None or meta.ref != ref) and self._copies is not None:
            meta = self._copied_meta(ref.id, ref.version, META)
        return meta if meta is not None and meta.ref == ref else None

    def _read_current_meta(self, avatar_id: str) -> AvatarMeta | None:
        with self._access("read", avatar_id):
            held = not is_one_off(avatar_id) or self._leases.holds(avatar_id)
            current = self._read_current(avatar_id) if held else None
        if current is None:
            if self._copies is not None:
                self._copies.drop(avatar_id)
            return None
        meta = self._parse_meta(current["meta"], f"{avatar_id}/{CURRENT}")
        if self._copied_current_meta(avatar_id) != meta:
            self._copy_json(meta, avatar_id, CURRENT)
        return meta

    def _copied_current_meta(self, avatar_id: str) -> AvatarMeta | None:
        """As a process of this machine saw it last, for when the store does not answer."""
        return self._copied_meta(avatar_id, CURRENT)

    def _listed(self, avatar_id: str) -> AvatarMeta | None:
        try:
            return self.meta(avatar_id)
        except UnknownAvatarError:
            return None
        except StoreError:
            raise
        except EngineError as error:
            self._tell(str(error), "an avatar is left out of the list: %s", error)
            return None


def _watch(watched: weakref.ref[AvatarStore], sweep: bool) -> None:
    while (store := watched()) is not None:
        try:
            if sweep and (ended := store.sweep()):
                logger.warning("avatars of requests that were never finished are removed: %s", ", ".join(ended))
            store.let_go()
        except StoreError:
            pass  # the log has it; the store may be back in a moment
        except Exception:
            logger.exception("looking after the avatars failed, and is tried again")
        del store
        time.sleep(WATCH_S)


def _check_version(avatar_id: str, version: str) -> str:
    if not isinstance(version, str) or not VERSION_PATTERN.fullmatch(version):
        raise UnknownAvatarError(f"avatar {avatar_id!r} has no version {str(version)[:80]!r}: a version is 16 hexadecimal digits")
    return version

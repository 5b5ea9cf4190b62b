"""Avatars on a real S3 server: local copies, what is current, and a store that is away."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from configs.models import AppConfig
from museserve.app.inprocess import LocalPipeline
from museserve.errors import ConfigError, ConflictError, EngineError, StoreError, UnknownAvatarError
from museserve.messages import SpeechRequest, VideoRequest
from musetalk.avatars import current
from musetalk.avatars.files import _contents
from musetalk.avatars.from_portrait import prepare_builtin
from musetalk.avatars.store import AvatarStore
from musetalk.avatars.stores import open_store
from tests.musetalk.avatars.test_store import make
from tests.object_store import ObjectStore

ROOT = Path(__file__).parents[3]
FRAME_BYTES = make().frames.nbytes
FOREVER = 3_600.0


@pytest.fixture(params=["moto", pytest.param("seaweed", marks=pytest.mark.slow)])
def kind(request: pytest.FixtureRequest, s3_keys: None) -> str:
    return str(request.param)


@pytest.fixture
def server(kind: str, tmp_path: Path) -> Iterator[ObjectStore]:
    """One of its own, to be killed or stopped."""
    (tmp_path / "server").mkdir()
    started = getattr(ObjectStore, kind)(tmp_path / "server")
    started.filesystem().create_dir("own")
    yield started
    started.thaw()
    started.kill()


Open = Callable[..., AvatarStore]


@pytest.fixture
def opened(s3: ObjectStore, bucket: str, tmp_path: Path) -> Open:
    """A store on S3 as one replica opens it; all replicas of the test share one folder of copies."""

    def open_(**options) -> AvatarStore:
        options = {"copies": tmp_path / "copies", "ttl_s": 0.0, **options}
        return AvatarStore(s3.uri(f"{bucket}/avatars"), **options)

    return open_


def copied(tmp_path: Path, name: str = "background.arrow") -> list[Path]:
    return sorted((tmp_path / "copies").glob(f"*/*/*/{name}"))


def gets(s3: ObjectStore, bucket: str, name: str = "background.arrow") -> int:
    return sum(request.startswith("GET") and request.endswith(name) for request in s3.requests(bucket))


# --- local copies --------------------------------------------------------------------------------------------------------


def test_replicas_of_a_machine_map_one_copy(opened: Open, s3: ObjectStore, bucket: str, tmp_path: Path) -> None:
    ref = opened().save(make())
    first, second = opened().load("anna").frames, opened().load("anna", ref.version).frames
    np.testing.assert_array_equal(first, make().frames)
    np.testing.assert_array_equal(second, first)
    (path,) = copied(tmp_path)
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(path))]
    inside = [any(_holds(line, frames.ctypes.data) for line in mapped) for frames in (first, second)]
    assert inside == [True, True]
    assert gets(s3, bucket) == 1


def _holds(line: str, address: int) -> bool:
    low, high = (int(n, 16) for n in line.split()[0].split("-"))
    return low <= address < high


def test_a_version_that_lies_here_takes_no_request(opened: Open, s3: ObjectStore, bucket: str) -> None:
    ref = opened().save(make())
    opened().load("anna", ref.version).open()
    before = len(s3.requests(bucket))
    avatar = opened().load("anna", ref.version)
    avatar.open()
    assert avatar.idle == make().idle and len(s3.requests(bucket)) == before


@pytest.mark.parametrize("damage", ["flipped", "short", "empty"])
def test_a_damaged_copy_is_fetched_anew(opened: Open, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    opened().save(make())
    opened().load("anna").open()
    (path,) = copied(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 0xFF
    path.unlink()  # so that what others have mapped stays
    path.write_bytes(bytes({"flipped": content, "short": content[:-9], "empty": b""}[damage]))
    np.testing.assert_array_equal(opened().load("anna").frames, make().frames)
    assert f"a local copy is damaged and fetched anew: {path}" in caplog.text
    caplog.clear()
    assert opened().load("anna").frames is not None and not caplog.records


def test_damage_in_the_store_is_named_and_never_copied(opened: Open, bucket: str, tmp_path: Path) -> None:
    store = opened()
    ref = store.save(make())
    with store._fs.open_output_stream(f"{bucket}/avatars/anna/{ref.version}/portrait.png") as stream:
        stream.write(b"\x89PNG?")
    with pytest.raises(EngineError, match="'anna': portrait.png is damaged: its content is not what was written"):
        _ = opened().load("anna").portrait_png
    assert copied(tmp_path, "portrait.png") == [] and copied(tmp_path, ".tmp-*") == []
    assert not store.holds(ref)
    store.save(make())
    assert opened().load("anna").portrait_png == make().portrait_png and store.holds(ref)


def test_copies_are_bounded_and_the_least_recently_used_leave(opened: Open, tmp_path: Path) -> None:
    names = ("a", "b", "c")
    for number, name in enumerate(names):
        opened().save(make(name, seed=number))
    bound = int(2.5 * FRAME_BYTES)
    held = {}
    for name in ("a", "b", "a", "c"):
        held[name] = opened(copies_bytes=bound).load(name).frames
        time.sleep(0.02)  # the file system's clock
    assert [path.parents[1].name for path in copied(tmp_path)] == ["a", "c"]
    assert not list((tmp_path / "copies").glob("*/b")), "nothing of it is left"
    np.testing.assert_array_equal(held["b"], make("b", seed=1).frames)  # whoever has it mapped keeps it
    np.testing.assert_array_equal(opened(copies_bytes=bound).load("b").frames, held["b"])


def test_an_avatar_in_use_is_no_candidate(opened: Open, tmp_path: Path) -> None:
    """It is opened once and then served from memory, so its use is told."""
    for number, name in enumerate(("a", "b", "c")):
        opened().save(make(name, seed=number))
    store = opened(copies_bytes=int(2.5 * FRAME_BYTES))
    for name in ("a", "b"):
        _ = store.load(name).frames
    long_ago = time.time() - 1_000
    for path in copied(tmp_path):
        os.utime(path.parent, (long_ago - 10 * (path.parents[1].name == "a"),) * 2)
    store._touched.clear()
    store.load("a")
    _ = store.load("c").frames
    assert [path.parents[1].name for path in copied(tmp_path)] == ["a", "c"]


PROCESS = """
import sys
from pathlib import Path
import numpy as np
from musetalk.avatars.store import AvatarStore
from tests.musetalk.avatars.test_store import make
store = AvatarStore(sys.argv[1], copies=Path(sys.argv[2]))
sys.stdin.read(1)
avatar = store.load("anna")
avatar.open()
assert np.array_equal(avatar.frames, make().frames)
"""


def test_processes_that_want_an_avatar_at_once_fetch_it_once(opened: Open, s3: ObjectStore, bucket: str, tmp_path: Path) -> None:
    opened().save(make())
    command = [sys.executable, "-c", PROCESS, s3.uri(f"{bucket}/avatars"), str(tmp_path / "copies")]
    readers = [subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT) for _ in range(3)]
    for reader in readers:
        assert reader.stdin is not None
        reader.stdin.write(b"x")
        reader.stdin.close()
    assert [reader.wait() for reader in readers] == [0, 0, 0]
    assert gets(s3, bucket) == 1
    assert not [path for path in (tmp_path / "copies").rglob("*") if path.name.startswith(".tmp-") or path.suffix == ".lock"]


def test_what_a_dead_process_left_goes(opened: Open, tmp_path: Path) -> None:
    ref = opened().save(make())
    _ = opened().load("anna").portrait_png
    (folder,) = (path.parent for path in copied(tmp_path, "portrait.png"))
    (folder / ".tmp-1").write_bytes(b"half a file")
    (folder.parents[1] / ".tmp-2").mkdir()
    assert opened().load("anna", ref.version).frames is not None
    assert not [path for path in (tmp_path / "copies").rglob(".tmp-*")]


def test_a_folder_that_cannot_be_written_is_told_and_done_without(opened: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    store = opened(copies=tmp_path / "file")
    store.save(make())
    avatar = store.load("anna")
    avatar.open()
    np.testing.assert_array_equal(avatar.frames, make().frames)
    assert len([r for r in caplog.records if "avatars.copies cannot be used" in r.message]) == 1


# --- what is current -----------------------------------------------------------------------------------------------------


def test_what_this_replica_writes_it_sees_at_once_and_others_after_the_time_to_live(opened: Open, s3: ObjectStore, bucket: str) -> None:
    here, elsewhere = opened(ttl_s=FOREVER), opened(ttl_s=1.0)
    first = here.save(make())
    assert elsewhere.resolve("anna") == first
    second = here.save(make(seed=1))
    assert here.resolve("anna") == second and here.load("anna").ref == second
    assert elsewhere.resolve("anna") == first
    time.sleep(1.1)
    assert elsewhere.resolve("anna") == second
    before = gets(s3, bucket, "current.json")
    assert [elsewhere.resolve("anna") for _ in range(20)] == [second] * 20
    assert gets(s3, bucket, "current.json") - before <= 1
    here.delete("anna")
    with pytest.raises(UnknownAvatarError):
        here.load("anna")
    assert elsewhere.resolve("anna") == second, "known for a moment yet"
    assert not elsewhere.exists("anna"), "looked up anew, because something is written by it"
    time.sleep(1.1)
    with pytest.raises(UnknownAvatarError, match="no avatar 'anna'"):
        elsewhere.resolve("anna")


def test_an_avatar_that_is_new_elsewhere_is_found_at_once_one_that_is_gone_when_it_is_missed(opened: Open) -> None:
    here, elsewhere = opened(), opened(ttl_s=FOREVER, copies=None)
    with pytest.raises(UnknownAvatarError):
        elsewhere.load("anna")
    here.save(make())
    assert elsewhere.resolve("anna").version == make().version
    here.delete("anna")
    here.save(make(seed=1))
    with pytest.raises(EngineError, match="lost its file background.arrow, or was deleted"):
        _ = elsewhere.load("anna").frames
    np.testing.assert_array_equal(elsewhere.load("anna").frames, make(seed=1).frames)


def test_a_deleted_avatar_leaves_the_copies(opened: Open, tmp_path: Path) -> None:
    here, elsewhere = opened(copies=tmp_path / "other" / "copies"), opened()
    for name in ("anna", "ben"):
        here.save(make(name))
        _ = elsewhere.load(name).frames
    here.delete("anna")
    here.delete("ben")
    with pytest.raises(UnknownAvatarError):
        elsewhere.load("anna")
    assert [path.parents[1].name for path in copied(tmp_path)] == ["ben"], "ben was not looked up"
    assert elsewhere.list() == [] and copied(tmp_path) == []


def test_writers_at_once_leave_whole_avatars(opened: Open) -> None:
    stores = [opened() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        refs = list(pool.map(lambda n: stores[n % 4].save(make(seed=n)), range(8)))
    fresh = opened()
    assert fresh.resolve("anna") in refs and fresh.holds(fresh.resolve("anna"))
    np.testing.assert_array_equal(fresh.load("anna").frames, make(seed=refs.index(fresh.resolve("anna"))).frames)


def test_only_folders_with_a_current_version_count(opened: Open, bucket: str, caplog: pytest.LogCaptureFixture) -> None:
    """Some stores keep the empty folder of an avatar that was deleted, and a writer may have died before it was done."""
    store = opened(max_avatars=2)
    store.save(make("one"))
    store._fs.create_dir(f"{bucket}/avatars/gone")
    with store._fs.open_output_stream(f"{bucket}/avatars/half/{'a' * 16}/portrait.png") as stream:
        stream.write(b"x")
    assert store.ids() == ["one"]
    store.save(make("two"))
    with pytest.raises(ConflictError, match="2 avatars and at most 2"):
        store.save(make("three"))
    with pytest.raises(UnknownAvatarError, match="known: one, two$"):
        store.load("gone")
    with store._fs.open_output_stream(f"{bucket}/avatars/two/current.json") as stream:
        stream.write(b"{")
    fresh = opened()
    assert [meta.id for meta in fresh.list()] == [meta.id for meta in fresh.list()] == ["one"]
    assert [r.message for r in caplog.records if "left out" in r.message] == [
        "an avatar is left out of the list: two/current.json in the avatar store is not JSON: "
        "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
    ]


# --- buckets, and a store that is away -----------------------------------------------------------------------------------


def config(s3: ObjectStore, path: str, home: Path, **query: str) -> AppConfig:
    return AppConfig.model_validate({"avatars": {"uri": s3.uri(path, **query), "copies": str(home)}})


def test_a_missing_bucket_is_told_at_start(s3: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="avatars.uri: bucket 'nowhere' is not there; make it first, or add allow_bucket_creation"):
        open_store(config(s3, "nowhere/avatars", tmp_path).avatars)
    store = open_store(config(s3, "made-by-us/avatars", tmp_path, allow_bucket_creation="true").avatars)
    assert store.holds(store.save(make()))


def test_keys_of_a_uri_go_on_working(s3: ObjectStore, bucket: str, caplog: pytest.LogCaptureFixture) -> None:
    store = AvatarStore(s3.uri(f"{bucket}/a", allow_delayed_open="false", allow_bucket_deletion="true", tls_ca_file_path=""))
    assert store.holds(store.save(make())) and not caplog.records
    assert any("?uploads" in request for request in s3.requests(bucket))
    store = AvatarStore(s3.uri(f"{bucket}/b", smart_defaults="standard"))
    assert store.holds(store.save(make())) and "has the time-outs of the AWS SDK" in caplog.text
    with pytest.raises(ConfigError, match="names no file system.*'nonsense'"):
        AvatarStore(s3.uri(f"{bucket}/b", nonsense="1"))


def test_the_address_may_come_from_the_environment(s3: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MUSESERVE_HOME", str(tmp_path))  # copies lie there unless they are told another place
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3.port}")
    store = open_store(AppConfig.model_validate({"avatars": {"uri": f"s3://{bucket}/avatars"}}).avatars)
    assert store.holds(store.save(make())) and store.load("anna").frames is not None
    assert len(list((tmp_path / "avatar-copies").rglob("background.arrow"))) == 1
    with pytest.raises(ConfigError, match="bucket 'nowhere' is not there"):
        open_store(AppConfig.model_validate({"avatars": {"uri": "s3://nowhere/avatars"}}).avatars)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    began = time.monotonic()
    with pytest.raises(StoreError):
        AvatarStore(f"s3://{bucket}/avatars").load("anna")
    assert time.monotonic() - began < 15


def test_a_small_avatar_takes_one_request_a_file(opened: Open, s3: ObjectStore, bucket: str) -> None:
    opened().save(make())
    assert not any("?uploads" in request for request in s3.requests(bucket))
    assert sum(request.startswith("PUT") for request in s3.requests(bucket)) == len(make_files()) + 2 + 1  # json, and the bucket


def make_files() -> list[str]:
    return [name for name, _ in _contents(make())]


def own(server: ObjectStore, tmp_path: Path, **options) -> AvatarStore:
    return AvatarStore(server.uri("own/avatars"), **{"copies": tmp_path / "copies", "ttl_s": 0.2, **options})


def away(server: ObjectStore, how: str) -> None:
    server.kill() if how == "killed" else server.freeze()


@pytest.mark.parametrize("how", ["killed", pytest.param("frozen", marks=pytest.mark.slow)])
def test_known_avatars_go_on_while_the_store_is_away(server: ObjectStore, tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """Also in a process that starts meanwhile on the same machine; all else fails within seconds, and names no address."""
    running = own(server, tmp_path)
    ref = running.save(make())
    running.save(make("ben"))
    running.load("anna").open()
    away(server, how)
    time.sleep(0.3)
    for _ in range(5):
        began = time.monotonic()
        np.testing.assert_array_equal(running.load("anna").frames, make().frames)
        assert time.monotonic() - began < 5
        time.sleep(0.25)
    started = own(server, tmp_path)
    assert started.load("anna").ref == ref
    np.testing.assert_array_equal(started.load("anna").frames, make().frames)
    began = time.monotonic()
    for ask in (lambda: started.load("carla"), lambda: running.load("ben").frames, started.list, lambda: started.save(make("new"))):
        with pytest.raises(StoreError) as failed:
            ask()
        assert failed.value.status == 503 and "avatar store cannot be" in str(failed.value)
        assert not any(secret in str(failed.value) for secret in ("127.0.0.1", str(server.port), "own", "s3:"))
    assert time.monotonic() - began < 4 * 15
    seen = [r for r in caplog.records if r.message.startswith("avatars are served as they were last seen")]
    assert 1 <= len(seen) <= 2, "one line a process that looked"
    if how == "frozen":
        server.thaw()
        running.save(make(seed=1))
        assert started.exists("anna")


def test_a_store_that_is_away_when_a_replica_starts_is_told(server: ObjectStore, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server.freeze()
    began = time.monotonic()
    store = open_store(config(server, "own/avatars", tmp_path).avatars)
    assert "whether bucket own is there cannot be told now" in caplog.text
    with pytest.raises(StoreError, match="cannot be read"):
        store.load("anna")
    assert time.monotonic() - began < 30


def test_a_slow_look_does_not_hold_who_knows(server: ObjectStore, tmp_path: Path) -> None:
    store = own(server, tmp_path)
    store.save(make())
    store.load("anna")
    server.freeze()
    time.sleep(0.3)
    began = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        refs = list(pool.map(lambda _: store.resolve("anna"), range(16)))
    assert len(set(refs)) == 1 and time.monotonic() - began < current.PATIENCE_S + 2
    server.thaw()


# --- an utterance --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["moto"], indirect=True)
async def test_an_avatar_on_s3_speaks_and_goes_on_while_its_store_is_away(
    server: ObjectStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    settings = AppConfig.model_validate(
        {
            "avatars": {"uri": server.uri("own/avatars"), "copies": str(tmp_path / "copies"), "current_ttl_s": 0.2},
            "cache": {"uri": server.uri("own/cache")},
            "speech": {"engine": "offline"},
            "lipsync": {"engine": "animator"},
        }
    )
    store = open_store(settings.avatars)
    prepare_builtin("interviewer_woman", store, 128, settings.mux.media)
    pipeline = LocalPipeline(settings, store, cache=True)

    async def say(text: str, utterance: str) -> list[bytes]:
        speech = SpeechRequest(text, "espeak-f", 1.0, "en")
        made = await pipeline.fragments(VideoRequest(utterance, "interviewer_woman", speech, paced=False))
        return [fragment.data for fragment in made]

    first = await say("Good morning.", "1")
    assert (await say("Good morning.", "2"))[0][:64] == first[0][:64]
    assert gets(server, "own", "background.arrow") == 1
    server.freeze()
    began = time.monotonic()
    assert len(await say("Good evening to you.", "3")) > 1
    assert time.monotonic() - began < 15
    server.kill()
    assert len(await say("And good night.", "4")) > 1
    assert "the cache cannot be read" in caplog.text

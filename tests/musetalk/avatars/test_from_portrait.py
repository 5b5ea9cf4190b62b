"""Portrait to stored avatar, and the shipped avatars, with the real animator and encoder."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs.models import AppConfig, AvatarConfig, MediaConfig
from museserve.errors import ConflictError, ImageError, RequestError, UnknownAvatarError
from museserve.messages import Box
from museserve.timebase import IDLE_FRAMES, SEGMENT_FRAMES
from musetalk.animator.eyelids import LEVELS
from musetalk.animator.render import idle_loop
from musetalk.animator.rig import Rig
from musetalk.avatars import from_portrait
from musetalk.avatars.builtin import BUILTIN, resolve, shipped_portrait
from musetalk.avatars.format import Avatar
from musetalk.avatars.from_portrait import prepare_builtin, prepare_portrait
from musetalk.avatars.preparation import is_current, renew
from musetalk.avatars.store import AvatarStore
from musetalk.avatars.stores import shipped_store
from tests.decoded import pictures
from tests.musetalk.photographs import with_spectacles
from tests.musetalk.pictures import DATA, encoded, woman

ROOT = Path(__file__).parents[3]
SIZE = 128  # small, so that the tests are quick


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return AvatarStore(str(tmp_path_factory.mktemp("avatars")))


@pytest.fixture(scope="module")
def photo_bytes():
    return (DATA / "astronaut.jpg").read_bytes()


@pytest.fixture(scope="module")
def prepared(store, photo_bytes):
    steps = []
    ref, report = prepare_portrait(
        photo_bytes, id="astronaut", name="An astronaut", gender="female", size=SIZE, store=store, progress=lambda *at: steps.append(at)
    )
    return ref, report, steps


def test_a_photograph_becomes_an_avatar(store, prepared, photo_bytes):
    ref, report, steps = prepared
    avatar = store.load("astronaut", ref.version)
    assert (avatar.meta.name, avatar.meta.gender, avatar.meta.builtin) == ("An astronaut", "female", False)
    assert avatar.meta.source_sha256 == hashlib.sha256(photo_bytes).hexdigest()
    assert avatar.meta.report == report.model_dump(mode="json") and report.warnings
    assert avatar.frames.shape == (IDLE_FRAMES, SIZE * 3 // 2, SIZE)
    assert avatar.portrait_png.startswith(b"\x89PNG")
    assert Image.open(io.BytesIO(avatar.portrait_png)).size == (2 * SIZE, 2 * SIZE)
    assert [name for name, _ in steps] == ["read", "find the face", "frame", "rig", "draw the idle loop", "encode the idle loop", "save"]
    parts = [part for _, part in steps]
    assert parts == sorted(parts) and parts[0] == 0 and parts[-1] < 1


def test_the_stored_rig_draws_the_stored_frames(store, prepared):
    """Idle to speech has no jump only if both come from the same rig: what differs is what the encoder does to a picture."""
    avatar = store.load("astronaut")
    rig = Rig.from_arrays(avatar.arrays("animator"))
    assert rig.box == avatar.box("animator") and isinstance(rig.box, Box)
    assert avatar.mask("animator") is None
    errors = np.square(idle_loop(rig).astype(int) - avatar.frames).reshape(IDLE_FRAMES, -1).mean(axis=1)
    assert 10 * np.log10(255**2 / errors.max()) > 39  # dB, of the worst frame: at this size a photograph is all detail


def test_the_idle_loop_plays_and_shows_the_stored_frames(store, prepared):
    avatar = store.load("astronaut")
    idle = avatar.idle
    assert len(idle["segments"]) == IDLE_FRAMES // SEGMENT_FRAMES
    off = np.abs(pictures(idle["mp4"]).astype(int) - avatar.frames)
    assert off.mean() < 1, "but for what its first key frame is off"
    assert len(pictures(idle["init"] + idle["segments"][0])) == SEGMENT_FRAMES


def test_the_same_picture_again_is_the_same_version(store, prepared, photo_bytes):
    again, _ = prepare_portrait(photo_bytes, id="astronaut", name="An astronaut", gender="female", size=SIZE, store=store)
    other, _ = prepare_portrait(photo_bytes, id="astronaut", name="Eileen", gender="female", size=SIZE, store=store)
    assert again == prepared[0] != other


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "empty"),
        (b"%PDF-1.7 and so on", "a PDF document"),
        (encoded(np.full((300, 300, 3), 120, np.uint8)), "no face"),
        (encoded(np.hstack([woman()[::2, ::2]] * 2)), "2 faces"),
        (encoded(woman())[:5000], "damaged"),
    ],
    ids=["empty", "pdf", "no face", "two faces", "truncated"],
)
def test_what_cannot_be_used_leaves_nothing_behind(tmp_path, data, match):
    store = AvatarStore(str(tmp_path / "avatars"))
    with pytest.raises(ImageError, match=match):
        prepare_portrait(data, id="new", store=store, size=SIZE)
    assert store.ids() == [] and not list(tmp_path.rglob("*.*"))


@pytest.mark.parametrize("bad", ["", "../up", "Big", "a b"])
def test_ids_are_checked_before_any_work(store, bad):
    with pytest.raises(RequestError, match="not an avatar id"):
        prepare_portrait(b"", id=bad, store=store)


def test_shipped_ids_genders_and_full_stores_are_checked_before_any_work(tmp_path):
    with pytest.raises(ConflictError, match="ships with the project"):
        prepare_portrait(b"", id="interviewer_man", store=AvatarStore(str(tmp_path)))
    with pytest.raises(RequestError, match="gender is 'other'"):
        prepare_portrait(b"", id="new", gender="other", store=AvatarStore(str(tmp_path)))
    with pytest.raises(ConflictError, match="at most 0"):
        prepare_portrait(b"", id="new", store=AvatarStore(str(tmp_path), max_avatars=0))


@pytest.mark.parametrize("name", BUILTIN)
def test_shipped_avatars_are_prepared_once(store, name, monkeypatch):
    ref = prepare_builtin(name, store, SIZE)
    meta = store.meta(name)
    assert meta.builtin and meta.ref == ref and meta.gender == ("male" if name.endswith("_man") else "female")
    monkeypatch.setattr(from_portrait, "idle_loop", None)  # would fail
    assert prepare_builtin(name, store, SIZE) == ref
    assert store.meta(name) == meta
    with pytest.raises(ConflictError):
        store.delete(name)


def test_a_damaged_shipped_avatar_is_mended(tmp_path):
    store = AvatarStore(str(tmp_path))
    ref = prepare_builtin("interviewer_man", store, SIZE)
    (tmp_path / ref.id / ref.version / "background.arrow").write_bytes(b"rubbish")
    assert prepare_builtin("interviewer_man", store, SIZE, verify=True) == ref
    assert store.holds(ref)


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"rubbish"), Path.unlink])
def test_a_shipped_avatar_that_is_damaged_when_a_process_opens_it_is_mended(tmp_path, damage, caplog):
    avatars = AvatarConfig(uri=str(tmp_path)).model_copy(update={"size": SIZE})
    config = AppConfig().model_copy(update={"avatars": avatars})
    ref = shipped_store(config, 2**20).resolve("interviewer_man")
    damage(tmp_path / ref.id / ref.version / "engine-animator.arrow")
    store = shipped_store(config, 2**20, use=Avatar.open_engines)
    assert store.holds(ref) and store.load("interviewer_man").arrays("animator")
    assert "a shipped avatar is prepared again" in caplog.text and "engine-animator.arrow" in caplog.text


def test_another_size_or_encoder_setting_is_another_version(tmp_path):
    store = AvatarStore(str(tmp_path))
    first = prepare_builtin("interviewer_man", store, SIZE)
    assert prepare_builtin("interviewer_man", store, 2 * SIZE) != first
    assert store.meta("interviewer_man").size == 2 * SIZE
    assert prepare_builtin("interviewer_man", store, SIZE, MediaConfig(crf=30)) != first


def test_processes_at_once_prepare_it_once_and_need_no_face_detection(tmp_path):
    code = f"""
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
from musetalk.avatars.store import AvatarStore
from musetalk.avatars.from_portrait import prepare_builtin
prepare_builtin("interviewer_woman", AvatarStore({str(tmp_path)!r}), {SIZE})
assert "mediapipe" not in sys.modules
"""
    runs = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert sum("built-in avatar prepared" in text for text in said) == 1
    (line,) = filter(None, said)
    assert "rig_ms=" in line and "save_ms=" in line


def test_an_avatar_of_another_animator_is_prepared_again_without_detection(store, prepared, photo_bytes, monkeypatch):
    old = store.load("astronaut")
    assert renew("astronaut", store) == old.ref
    assert not is_current(old.meta.model_copy(update={"crf": None})), "its frames are not what its idle loop shows"
    current = from_portrait.animator_version()
    monkeypatch.setattr(from_portrait, "animator_version", lambda: "newer")
    monkeypatch.setattr(from_portrait, "find_faces", None)
    new = renew("astronaut", store)
    assert new != old.ref and current != "newer"
    avatar = store.load("astronaut")
    assert avatar.ref == new and avatar.meta.engines == {"animator": "newer"}
    assert avatar.meta.report == old.meta.report and avatar.portrait_png == old.portrait_png
    np.testing.assert_array_equal(avatar.frames, old.frames)


def test_names_of_old_callers_mean_the_shipped_avatars():
    assert resolve("woman") == "interviewer_woman" and resolve("man") == "interviewer_man" and resolve("anna") == "anna"
    assert "interviewer_man" in BUILTIN and "man" not in BUILTIN
    with pytest.raises(UnknownAvatarError, match="no avatar 'anna' ships"):
        shipped_portrait("anna")
    with pytest.raises(UnknownAvatarError):
        shipped_portrait("../avatars/interviewer_man")


@pytest.mark.parametrize("rims_below", [True, False])
def test_the_report_tells_whether_eyes_blink_behind_glasses(tmp_path, rims_below):
    shipped = shipped_portrait("interviewer_woman")
    worn = with_spectacles(shipped.portrait, shipped.landmarks, below=rims_below)
    store = AvatarStore(str(tmp_path))
    ref, report = prepare_portrait(encoded(worn), id="reader", size=256, store=store)
    assert report.glasses > 1 and report.blinks is rims_below
    assert any("do not blink" in warning for warning in report.warnings) is not rims_below
    avatar = store.load("reader", ref.version)
    assert avatar.meta.report["blinks"] is rims_below
    assert len(Rig.from_arrays(avatar.arrays("animator")).eyes[0].lid) == (LEVELS if rims_below else 1)

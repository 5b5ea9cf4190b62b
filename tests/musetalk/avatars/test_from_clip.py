"""From a clip to an avatar in the store, and every clip that is refused: who is in it, how large, how turned, for how long."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks.generated_models import write_models  # noqa: E402
from configs.models import AppConfig, ClipConfig, parse_config  # noqa: E402
from museserve.errors import ClipError, ConflictError, EngineUnavailableError, WeightsError  # noqa: E402
from museserve.messages import EngineInfo  # noqa: E402
from museserve.weights.folder import WeightsFolder  # noqa: E402
from musetalk.avatars import from_portrait  # noqa: E402
from musetalk.avatars.format import EngineParts, PreparedAvatar, content_version  # noqa: E402
from musetalk.avatars.from_clip import forth_and_back, loop_frames, prepare_clip  # noqa: E402
from musetalk.avatars.preparation import is_current, renew  # noqa: E402
from musetalk.avatars.progress import PREPARING_SHIPPED  # noqa: E402
from musetalk.avatars.store import AvatarStore  # noqa: E402
from musetalk.factory import load_face_networks, prepare_shipped  # noqa: E402
from musetalk.neural.avatar_parts import FaceNetworks, face_crop, neural_version, to_rgb  # noqa: E402
from musetalk.neural.networks import load_vae  # noqa: E402
from tests.decoded import pictures  # noqa: E402
from tests.museserve.media.films import film  # noqa: E402
from tests.musetalk.faces.parser_weights import save_parser  # noqa: E402
from tests.musetalk.faces.pose_graph import pose_network  # noqa: E402
from tests.musetalk.people import person  # noqa: E402
from tests.musetalk.pictures import tilted, woman  # noqa: E402

LIMITS = ClipConfig(min_s=0.4)
SIZE = 256


def config(folder: Path, **musetalk: Any) -> AppConfig:
    drawn = {"engine": "musetalk", "musetalk": {"device": "cpu", "threads": 1, **musetalk}}
    return parse_config({"weights": {"uri": str(folder), "unpublished": True}, "lipsync": drawn, "avatars": {"size": 512}})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("models")
    write_models(path)
    return path


@pytest.fixture(scope="module")
def networks(models: Path) -> FaceNetworks:
    return FaceNetworks(config(models))


@pytest.fixture(scope="module")
def clip() -> bytes:
    return film(person(16))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> AvatarStore:
    return AvatarStore(str(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def made(clip: bytes, networks: FaceNetworks, store: AvatarStore) -> Any:
    said: list[tuple[str, float]] = []
    ref, report = prepare_clip(
        clip,
        id="mina",
        name="Mina",
        gender="female",
        size=SIZE,
        store=store,
        networks=networks,
        limits=LIMITS,
        progress=lambda step, done: said.append((step, done)),
    )
    return store.load(ref.id, ref.version), report, said


def test_the_loop_is_a_whole_number_of_segments() -> None:
    for n in range(13, 60):
        kept = loop_frames(n)
        order = forth_and_back(kept)
        assert n - 3 <= kept <= n and len(order) % 8 == 0
        steps = np.abs(np.diff(np.append(order, order[0])))
        assert set(steps) == {1} and order.max() == kept - 1


def test_a_clip_becomes_an_avatar(made: Any) -> None:
    avatar, report, said = made
    meta = avatar.meta
    assert meta.source == "clip" and set(meta.engines) == {"musetalk"} and meta.size == SIZE
    assert avatar.frames.shape == (13, SIZE * 3 // 2, SIZE) and meta.n_frames == len(avatar.order) == 24
    assert len(avatar.idle["segments"]) == 3 and avatar.idle["mp4"]
    assert avatar.source().portrait.shape == (SIZE, SIZE, 3)
    assert report.frames == 16 and report.people == 1 and report.frames_without_face == 0 and report.iris_px == pytest.approx(52, abs=3)
    assert "enlarged" not in " ".join(report.warnings) and abs(report.yaw_worst) < 5
    done = [part for _, part in said]
    assert done == sorted(done) and done[0] == 0 and len({step for step, _ in said}) == 7
    assert meta.to_json()["report"]["musetalk"]["mask"] == "drawn from landmarks"


def test_what_is_missing_is_told(made: Any) -> None:
    found = made[0].meta.report["musetalk"]
    assert found["landmarks"] == "MediaPipe" and "dwpose" in found["notes"][0] and "face-parse-bisent" in found["notes"][1]


def test_the_face_lies_in_its_box_and_shows_below_its_middle(made: Any) -> None:
    avatar, _, _ = made
    faces, box, mask = avatar.faces("musetalk"), avatar.box("musetalk"), avatar.mask("musetalk")
    assert faces.shape == (13, 4) and mask.shape == (13, box.h, box.w)
    for face, track, shown in zip(faces, avatar.track, mask, strict=True):
        assert face[1] < track[10:11, 1].min() + 60 and abs(face[3] - track[152, 1]) < 12  # ends a margin below the chin
        assert (face[0] + face[2]) / 2 == pytest.approx(track[4, 0], abs=8)
        middle = (face[1] + face[3]) // 2
        assert not shown[: max(0, middle - 8 - box.y)].any()
        lips = track[13].astype(int)
        assert shown[lips[1] - box.y, lips[0] - box.x] > 200


def test_latents_are_those_of_the_faces(made: Any, models: Path) -> None:
    avatar, _, _ = made
    arrays = avatar.arrays("musetalk")
    assert arrays["latents"].shape == (13, 8, 32, 32) and arrays["latents"].dtype == np.float16
    assert arrays["latent_index"].tolist() == list(range(13))
    vae = load_vae(WeightsFolder(config(models).weights), torch.device("cpu"), torch.float32)
    x0, y0, x1, y1 = map(int, avatar.faces("musetalk")[7])
    face = face_crop(to_rgb(avatar.frames[7]), (x0, y0, x1, y1))
    with torch.inference_mode():
        want = vae.encode_faces(torch.from_numpy(face[None]))[0].numpy()
    assert np.abs(arrays["latents"][7].astype(np.float32) - want).max() < 2e-3 * np.abs(want).max()
    layout = arrays["layout"][7]
    eyes = (avatar.track[7][[468, 473]] - (x0, y0)) * (256 / (x1 - x0), 256 / (y1 - y0))
    assert arrays["layout"].shape == (13, 2, 3) and np.abs(eyes @ layout[:, :2].T + layout[:, 2] - [[193, 240], [319, 240]]).max() < 15


def test_it_can_be_shown(made: Any) -> None:
    avatar, _, _ = made
    background = avatar.background("musetalk")
    crop = np.full((384, 256), 128, np.uint8)
    assert len(background) == 24 and [background.number(i) for i in (0, 12, 13, 24)] == [0, 12, 11, 0]
    assert (background.picture(5, crop) != avatar.frames[5]).any()


def test_the_same_clip_again_changes_nothing(made: Any, clip: bytes, networks: FaceNetworks, store: AvatarStore) -> None:
    ref, _ = prepare_clip(clip, id="mina", name="Mina", size=SIZE, store=store, networks=networks, limits=LIMITS)
    assert ref == made[0].ref and store.meta("mina") == made[0].meta


def test_the_animator_cannot_draw_it_and_says_what_can(made: Any) -> None:
    animator = EngineInfo("animator", "auto: there is no CUDA device", "1", "cpu", 0, 0)
    with pytest.raises(EngineUnavailableError, match="made from a clip, which only MuseTalk can draw.*animator .auto: there is no CUDA device"):
        made[0].require(animator)
    made[0].require(EngineInfo("musetalk", "configured", "1", "cpu", 0, 0))


def test_other_networks_prepare_it_again_from_what_is_kept(made: Any, models: Path, store: AvatarStore, monkeypatch: pytest.MonkeyPatch) -> None:
    old = made[0]
    other = FaceNetworks(config(models, blend={"upper_boundary": 0.6}))
    assert other.version != old.meta.engines["musetalk"] and not is_current(old.meta, other) and is_current(old.meta)
    monkeypatch.setattr("musetalk.avatars.from_clip.shared_detector", None)
    ref = renew("mina", store, networks=other)
    new = store.load("mina")
    assert new.ref == ref != old.ref and new.meta.engines == {"musetalk": other.version}
    assert np.array_equal(new.frames, old.frames) and np.array_equal(new.arrays("musetalk")["latents"], old.arrays("musetalk")["latents"])
    mask = new.mask("musetalk")
    assert mask is not None and mask.astype(int).sum() < old.mask("musetalk").astype(int).sum()
    assert new.meta.report["seconds"] == old.meta.report["seconds"]
    assert renew("mina", store, networks=other) == ref


def test_a_clip_whose_loop_does_not_show_its_frames_is_encoded_again(made: Any, networks: FaceNetworks, store: AvatarStore) -> None:
    old = made[0]
    parts = EngineParts(old.meta.engines["musetalk"], old.box("musetalk"), old.arrays("musetalk"), old.mask("musetalk"), old.faces("musetalk"))
    kept = {name: getattr(old, name) for name in ("portrait_png", "landmarks", "frames", "idle", "order", "track")}
    said = {name: getattr(old.meta, name) for name in ("name", "gender", "size", "source_sha256", "source", "settings", "report")}
    version = content_version(old.meta.settings, networks.version)
    store.save(PreparedAvatar(id="older", version=version, engines={"musetalk": parts}, **kept, **said))
    assert not is_current(store.meta("older"), networks)
    new = store.load(renew("older", store, networks=networks).id)
    assert new.meta.crf is not None and is_current(new.meta, networks) and new.idle is not None
    assert np.abs(pictures(new.idle["mp4"])[: len(new.frames)].astype(int) - new.frames).mean() < 1


def test_the_version_follows_files_and_settings(models: Path, tmp_path: Path) -> None:
    base = neural_version(config(models))
    assert neural_version(config(models)) == base
    assert neural_version(config(models, blend={"left_cheek": 80})) != base
    copy = tmp_path / "models"
    shutil.copytree(models, copy)
    assert neural_version(config(copy)) == base
    save_parser(copy / "face-parse-bisent/79999_iter.pth")
    assert neural_version(config(copy)) != base
    (copy / "sd-vae/diffusion_pytorch_model.bin").unlink()
    with pytest.raises(WeightsError, match="sd-vae"):
        neural_version(config(copy))


def test_all_networks(models: Path, tmp_path: Path, clip: bytes) -> None:
    """Masks from a parser with weights of its full size; a pose network that sees a face above the person is not believed."""
    folder = tmp_path / "models"
    shutil.copytree(models, folder)
    save_parser(folder / "face-parse-bisent/79999_iter.pth")
    pose = folder / "dwpose/dw-ll_ucoco_384.onnx"
    pose.parent.mkdir()
    pose_network(pose, np.full((133, 2), (0, -80)), np.zeros(133, int))
    networks = FaceNetworks(config(folder))
    assert networks.notes == ()
    store = AvatarStore(str(tmp_path / "store"))
    ref, _ = prepare_clip(film(person(10)), id="x", size=SIZE, store=store, networks=networks, limits=ClipConfig(min_s=0.4))
    found = store.meta(ref.id).report["musetalk"]
    assert found["mask"] == "BiSeNet"
    assert found["landmarks"] == "MediaPipe" and "another person" in found["notes"][0]
    (folder / "dwpose/dw-ll_ucoco_384.onnx").write_bytes(b"cut short")
    with pytest.raises(EngineUnavailableError, match="DWPose"):
        FaceNetworks(config(folder))


def test_shipped_avatars_are_prepared_for_musetalk_once(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("musetalk.animator.render.IDLE_FRAMES", 16)
    store, settings = AvatarStore(str(tmp_path)), config(models)
    for avatar in ("interviewer_woman", "interviewer_man"):
        from_portrait.prepare_builtin(avatar, store)
    networks = FaceNetworks(settings)
    caplog.set_level("INFO")
    prepare_shipped(settings, store, networks)
    told = [found for record in caplog.records if (found := re.fullmatch(rf"{PREPARING_SHIPPED}: (\d+) %, (\w+): .+", record.getMessage()))]
    parts = [int(found[1]) for found in told]
    assert parts == sorted(parts) and parts[0] < 50 <= parts[-1] and {found[2] for found in told} == {"interviewer_woman", "interviewer_man"}
    caplog.clear()
    meta = store.meta("interviewer_woman")
    assert set(meta.engines) == {"animator", "musetalk"} and meta.report["musetalk"]["landmarks"] == "MediaPipe"
    assert from_portrait.prepare_builtin("interviewer_woman", store) == meta.ref  # without networks it is left as it is
    monkeypatch.setattr("musetalk.neural.avatar_parts.FaceNetworks", None)  # would fail
    prepare_shipped(settings, store)
    assert store.meta("interviewer_woman") == meta and PREPARING_SHIPPED not in caplog.text


def test_which_networks_are_loaded(models: Path, tmp_path: Path) -> None:
    assert load_face_networks(parse_config({"lipsync": {"engine": "animator"}})) == (None, "lipsync.engine is animator")
    auto, reason = load_face_networks(parse_config({"weights": {"uri": str(tmp_path)}}))
    assert auto is None and "museserve weights download" in reason
    with pytest.raises(EngineUnavailableError, match="asked for"):
        load_face_networks(config(tmp_path))
    loaded, reason = load_face_networks(config(models))
    assert loaded is not None and reason == ""


# --- refused -------------------------------------------------------------------------------------------------------------


def refused(frames: Iterator[np.ndarray], store: AvatarStore, *says: str, limits: ClipConfig = LIMITS) -> None:
    with pytest.raises(ClipError) as error:
        prepare_clip(film(frames), id="nobody", size=SIZE, store=store, networks=None, limits=limits)  # type: ignore[arg-type]
    for part in says:
        assert part in str(error.value), error.value
    assert not store.exists("nobody")


def test_no_face(store: AvatarStore) -> None:
    refused(person(12, hidden=lambda i: True), store, "no face was found", "12 frames of 640 x 360")


def test_a_face_in_some_frames(store: AvatarStore) -> None:
    refused(person(30, hidden=lambda i: 8 <= i < 22), store, "missing for 0.56 s from 0.32 s on", "up to 0.4 s")
    refused(person(24, hidden=lambda i: i % 3 == 1), store, "missing in 8 of 24 frames", "20 %")


def test_short_gaps_are_bridged(store: AvatarStore, networks: FaceNetworks) -> None:
    ref, report = prepare_clip(film(person(25, hidden=lambda i: 10 <= i < 13)), id="gaps", size=SIZE, store=store, networks=networks, limits=LIMITS)
    assert report.frames_without_face == report.longest_gap == 3 and "3 frames, which were bridged" in " ".join(report.warnings)
    avatar = store.load(ref.id)
    track, faces = avatar.track, avatar.faces("musetalk")
    assert track is not None and faces is not None
    assert avatar.meta.report["musetalk"]["bridged_frames"] == 3 and np.isnan(track[10:13]).all()
    assert np.abs(np.diff(faces, axis=0)).max() <= 4


def test_two_faces(store: AvatarStore, networks: FaceNetworks) -> None:
    refused(person(13, other=300, at=0.72, side=300), store, "2 faces of about the same size")
    ref, report = prepare_clip(film(person(13, other=160, at=0.65)), id="two", size=SIZE, store=store, networks=networks, limits=LIMITS)
    assert report.people == 2 and "the largest face is used" in report.warnings[0]
    assert store.load(ref.id).meta.report["iris_px"] == pytest.approx(52, abs=3)


def test_a_profile(store: AvatarStore) -> None:
    refused(person(12, yaw=60), store, "turned by", "right", limits=LIMITS.model_copy(update={"max_yaw": 20.0}))


def test_a_small_face(store: AvatarStore) -> None:
    refused(person(12, side=130), store, "too small", "at least 24")


def test_somebody_who_lies_on_the_side(store: AvatarStore) -> None:
    def lying() -> Iterator[np.ndarray]:
        for i in range(12):
            scene = np.full((400, 400, 3), 140, np.uint8)
            scene[20:380, 20 + i : 380 + i] = cv2.resize(tilted(woman(), 60), (360, 360), interpolation=cv2.INTER_AREA)
            yield scene[:, :400]

    refused(lying(), store, "degrees on the side", "rotation")


def test_a_face_cut_off(store: AvatarStore) -> None:
    refused(person(12, at=0.05), store, "cut off", "of 12 frames")


def test_a_head_that_moves_through_the_picture(store: AvatarStore) -> None:
    def walking() -> Iterator[np.ndarray]:
        for i in range(26):
            yield next(person(1, width=960, at=0.2 + 0.6 * i / 25))

    refused(walking(), store, "moves too far", "square of 360")


def test_a_full_store_is_told_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match="at most 0"):
        prepare_clip(b"", id="x", store=AvatarStore(str(tmp_path), max_avatars=0), networks=None)  # type: ignore[arg-type]


def test_progress_that_raises_leaves_nothing(clip: bytes, networks: FaceNetworks, tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def stop(step: str, done: float) -> None:
        if step == "encode the face":
            raise Enough

    with pytest.raises(Enough):
        prepare_clip(clip, id="x", size=SIZE, store=AvatarStore(str(tmp_path)), networks=networks, limits=LIMITS, progress=stop)
    assert list(tmp_path.rglob("*")) == []

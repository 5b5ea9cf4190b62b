"""The commands as a user types them, each in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import av
import psutil
import pytest
import yaml

from museserve import __version__
from musetalk.avatars.builtin import BUILTIN
from musetalk.avatars.store import AvatarStore
from tests.conftest import Service
from tests.decoded import length_s
from tests.deployments.test_older_store import age
from tests.museserve.weights.file_server import Served, file_server

ROOT = Path(__file__).resolve().parents[3]
PORTRAIT = ROOT / "musetalk" / "avatars" / "shipped" / "interviewer_man" / "portrait.png"
HEAVY = ("ray", "numpy", "cv2", "av", "mediapipe", "onnxruntime", "pyarrow", "openai", "pydantic", "starlette", "yaml")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def museserve(home: Path, tmp_path: Path):
    """Runs `museserve ...` in an empty folder, with a store that this module's tests share."""

    def run(*arguments: object, stdin: str = "", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("OPENAI_")}
        return subprocess.run(
            [sys.executable, "-m", "museserve.app.cli", *map(str, arguments)],
            cwd=tmp_path,
            env={**inherited, "MUSESERVE_HOME": str(home), "PYTHONPATH": str(ROOT), **(env or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """One line on stderr that says what was wrong, status 1, nothing on stdout."""
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("museserve: ")
    for word in words:
        assert word in done.stderr


def length(path: Path) -> float:
    """Seconds of the finished video, after checking that both tracks are there and end together."""
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        frames = sum(1 for _ in container.decode(video))
        assert video.average_rate == 25
        assert float(length_s(audio)) == pytest.approx(frames / 25, abs=0.05)
    return frames / 25


# --- help ----------------------------------------------------------------------------------------------------------------


def test_help_names_every_command(museserve) -> None:
    done = museserve("--help")
    assert done.returncode == 0
    assert all(f"\n  {command}" in done.stdout for command in ("say", "serve", "doctor", "avatar"))


def test_version_is_told(museserve) -> None:
    done = museserve("--version")
    assert (done.returncode, done.stdout) == (0, f"museserve {__version__}\n")


def test_nothing_heavy_is_imported_before_a_command_runs() -> None:
    code = f"import sys, museserve.app.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_reference_is_current(tmp_path: Path) -> None:
    written = tmp_path / "cli.md"
    command = [
        sys.executable,
        "-m",
        "typer",
        "museserve/app/cli.py",
        "utils",
        "docs",
        "--name",
        "museserve",
        "--title",
        "The command line",
        "--output",
        str(written),
    ]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
    assert (ROOT / "docs" / "cli.md").read_text() == written.read_text(), "run: make docs"


# --- say -----------------------------------------------------------------------------------------------------------------


def test_say_films_a_text(museserve, tmp_path: Path) -> None:
    done = museserve("say", "Tell me about yourself.", "-o", "out.mp4")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert 1.0 < length(tmp_path / "out.mp4") < 4.0
    assert "out.mp4" in done.stderr and "animator" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_say_reads_stdin_and_speaks_korean(museserve, tmp_path: Path) -> None:
    done = museserve("say", "-", "--avatar", "man", "-o", "out.mp4", stdin="자기소개를 해 주세요.\n")
    assert done.returncode == 0, done.stderr
    assert 1.0 < length(tmp_path / "out.mp4") < 5.0


@pytest.mark.slow
def test_say_films_recorded_speech(museserve, tmp_path: Path) -> None:
    museserve("say", "One, two, three.", "-o", "spoken.mp4")
    done = museserve("say", "--audio", "spoken.mp4", "-o", "out.mp4")
    assert done.returncode == 0, done.stderr
    assert length(tmp_path / "out.mp4") == pytest.approx(length(tmp_path / "spoken.mp4"), abs=0.65)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--audio"]),
        (["Hi.", "--audio", "x.wav"], ["not both"]),
        (["--audio", "x.wav"], ["x.wav", "No such file"]),
        (["Hi.", "-o", "out.webm"], ["out.webm", ".mp4"]),
        (["Hi.", "-o", "nowhere/out.mp4"], ["nowhere", "does not exist"]),
        (["Hi.", "--config", "nope"], ["nope.yaml", "local"]),
        (["Hi.", "--voice", "nobody"], ["nobody"]),
        (["Hi.", "--avatar", "nobody"], ["nobody", "interviewer_woman"]),
        (["Hi.", "--language", "klingonese"], ["klingonese"]),
        (["   "], ["empty"]),
    ],
)
def test_say_refuses_in_one_line(museserve, tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    assert_refused(museserve("say", *arguments), *words)
    assert list(tmp_path.iterdir()) == []


def test_unknown_option_is_told(museserve) -> None:
    done = museserve("say", "Hi.", "--loud")
    assert done.returncode == 2
    assert "--loud" in done.stderr and "Traceback" not in done.stderr


# --- serve ---------------------------------------------------------------------------------------------------------------


def test_serve_says_that_the_port_is_taken(museserve) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = museserve("serve", "--port", port)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"port {port}" in done.stderr and "Traceback" not in done.stderr


def test_serve_says_that_the_port_of_the_dashboard_is_taken(museserve, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (tmp_path / "mine.yaml").write_text(f"server: {{port: 0, dashboard_port: {port}}}\n")
        done = museserve("serve", "--config", "mine.yaml")
    assert done.returncode == 1
    assert f"port {port}" in done.stderr and "server.dashboard_port" in done.stderr and "Traceback" not in done.stderr


def test_serve_refuses_an_unknown_key(museserve, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("server: {prot: 9000}\n")
    done = museserve("serve", "--config", "mine.yaml")
    assert done.returncode == 1
    assert "server.prot" in done.stderr and "Traceback" not in done.stderr


# --- avatar --------------------------------------------------------------------------------------------------------------


def test_avatar_is_added_listed_and_deleted(museserve) -> None:
    added = museserve("avatar", "add", PORTRAIT, "--id", "mina", "--name", "Mina", "--gender", "male")
    assert added.returncode == 0, added.stderr
    printed = yaml.safe_load(added.stdout)
    assert printed["id"] == "mina" and printed["report"]["faces"] == 1

    listed = museserve("avatar", "list").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["interviewer_man", "interviewer_woman", "mina"]
    assert "Mina" in listed[2] and "added" in listed[2]

    assert museserve("avatar", "delete", "mina").returncode == 0
    assert "mina" not in museserve("avatar", "list").stdout
    assert_refused(museserve("avatar", "delete", "mina"), "mina")


def test_what_another_version_prepared_is_made_new_with_a_line_each(museserve, tmp_path: Path) -> None:
    env = {"MUSESERVE_HOME": str(tmp_path / "home")}
    listed = museserve("avatar", "list", env=env)
    assert listed.stderr == "" and listed.stdout.count("prepared when it is first used") == 2
    assert museserve("say", "Hi.", env=env).returncode == 0
    for name in BUILTIN:
        age(AvatarStore(str(tmp_path / "home" / "avatars")), name)
    said = museserve("say", "Hi.", env=env).stderr.splitlines()
    for name in BUILTIN:
        (line,) = [line for line in said if name in line]
        assert "prepared again" in line and "of another version" in line
    prepared = museserve("avatar", "prepare", env=env)
    assert prepared.stderr == "" and [line.split(":")[0] for line in prepared.stdout.splitlines()] == sorted(BUILTIN)


def test_listing_or_deleting_leaves_avatars_of_another_configuration(museserve, tmp_path: Path) -> None:
    env = {"MUSESERVE_HOME": str(tmp_path / "home")}
    assert museserve("say", "Hi.", env=env).returncode == 0
    store = AvatarStore(str(tmp_path / "home" / "avatars"))
    versions = [store.resolve(name) for name in BUILTIN]
    other = tmp_path / "other.yaml"
    other.write_text("mux: {media: {crf: 21}}\n")
    assert museserve("avatar", "list", "--config", other, env=env).returncode == 0
    assert_refused(museserve("avatar", "delete", "nobody", "--config", other, env=env), "nobody")
    assert [store.resolve(name) for name in BUILTIN] == versions


def test_avatar_refuses_what_is_no_picture(museserve, tmp_path: Path) -> None:
    (tmp_path / "cv.png").write_bytes(b"%PDF-1.7\n")
    done = museserve("avatar", "add", "cv.png")
    assert done.returncode == 1
    assert "PDF" in done.stderr and "Traceback" not in done.stderr


def test_builtin_avatar_stays(museserve) -> None:
    assert_refused(museserve("avatar", "delete", "interviewer_man"), "interviewer_man")


# --- doctor --------------------------------------------------------------------------------------------------------------


def test_doctor_finds_nothing_wrong_and_never_prints_the_key(museserve, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("server: {port: 0}\n")
    done = museserve("doctor", "--config", "mine.yaml", env={"OPENAI_API_KEY": "sk-not-for-your-eyes"})
    assert done.returncode == 0, done.stdout
    assert "✗" not in done.stdout
    assert "key set" in done.stdout and "sk-not" not in done.stdout + done.stderr
    checked = {line.split(":")[0].lstrip("✓· ") for line in done.stdout.splitlines()}
    assert {"python", "packages", "encoders", "landmark model", "avatars", "voice en", "voice ko", "espeak-ng", "port"} <= checked


@pytest.mark.serve
def test_doctor_knows_a_museserve_that_runs(museserve, service: Service, tmp_path: Path) -> None:
    port = int(service.url.rsplit(":", 1)[1])
    (tmp_path / "mine.yaml").write_text(f"server: {{port: {port}}}\nlimits: {{media_root: {tmp_path}}}\n")
    done = museserve("doctor", "--config", "mine.yaml")
    assert done.returncode == 0, done.stdout
    assert f"· port: 127.0.0.1:{port}: museserve runs there, ok, lips: animator, version {__version__}" in done.stdout


def test_doctor_checks_what_the_configuration_needs(museserve, tmp_path: Path) -> None:
    wants = {
        "server": {"port": 0, "host": "0.0.0.0"},
        "access": {"auth": "keys", "keys_file": str(tmp_path / "none.json")},
        "lipsync": {"engine": "musetalk"},
        "speech": {"lexicon": str(tmp_path / "none.yaml")},
        "limits": {"media_root": str(tmp_path / "none")},
        "deployments": {"lipsync": {"num_gpus": 64}},
        "weights": {"uri": str(tmp_path / "models")},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(wants))
    done = museserve("doctor", "--config", "mine.yaml")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    faults = {line[2:].split(":")[0]: advice.strip() for line, advice in zip(lines, lines[1:], strict=False) if line.startswith("✗")}
    assert {"lexicon", "lips", "cards", "access", "media root"} <= set(faults)
    assert "museserve keys create" in faults["access"] and "animator" in faults["lips"]


@pytest.mark.slow
def test_doctor_names_the_fault_and_its_cure(museserve, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (tmp_path / "mine.yaml").write_text(f"server: {{port: {port}}}\n")
        done = museserve("doctor", "--config", "mine.yaml")
    assert done.returncode == 1
    fault = done.stdout.splitlines().index(next(line for line in done.stdout.splitlines() if line.startswith("✗")))
    assert str(port) in done.stdout.splitlines()[fault]
    assert "--port" in done.stdout.splitlines()[fault + 1]


# --- weights -------------------------------------------------------------------------------------------------------------

UNET_V1 = "musetalk/pytorch_model.bin"  # whose sum is not known here


@pytest.fixture
def hub():
    with file_server() as server:
        yield server


def test_weights_are_listed_with_their_licences(museserve, tmp_path: Path) -> None:
    done = museserve("weights", "list", "--for", "v15")
    assert done.returncode == 0 and "missing" in done.stdout
    assert "musetalkV15/unet.pth: UNet" in done.stdout and "3,400,074,924 bytes" in done.stdout and "creativeml-openrail-m" in done.stdout


def test_weights_are_downloaded_verified_and_mended(museserve, tmp_path: Path, hub) -> None:
    hub.files[f"/TMElyralab/MuseTalk/resolve/2bcb936e2fddb4d86db4c62fd45b387d0c061571/{UNET_V1}"] = Served(b"not a model" * 1_000)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"weights": {"uri": str(tmp_path / "models"), "mirror": hub.url}}))
    done = museserve("weights", "download", UNET_V1, "--config", config)
    assert done.returncode == 0 and "SHA-256" in done.stdout and "as published" in done.stdout and "licence: MIT" in done.stderr, done
    assert "there already" in museserve("weights", "download", UNET_V1, "--config", config).stdout
    (tmp_path / "models" / UNET_V1).write_bytes(b"damaged....." * 1_000)
    done = museserve("weights", "verify", UNET_V1, "--config", config)
    assert done.returncode == 1 and f"✗ {UNET_V1}: damaged" in done.stdout and f"museserve weights download --again {UNET_V1}" in done.stdout


def test_voices_are_listed_and_come_from_an_archive_when_their_makers_are_gone(museserve, tmp_path: Path, hub, monkeypatch) -> None:
    from museserve.weights.catalogue import BY_NAME

    name = "supertonic-3/onnx/tts.json"
    hub.files["/supertone-oss-archive/supertonic-3/resolve/main/onnx/tts.json"] = Served(b"{}")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"weights": {"uri": str(tmp_path / "models"), "mirror": hub.url}}))
    listed = museserve("weights", "list", "--for", "voices", "--config", config).stdout
    assert listed.count("licence: BigScience Open RAIL-M") == 17 and "the voice supertonic-m5" in listed and BY_NAME[name].url in listed
    done = museserve("weights", "download", name, "--config", config)
    assert done.returncode == 1 and "404" in done.stderr, "what their makers have not is looked for in the archive"
    assert "/resolve/main/onnx/tts.json has 2 bytes where 8,253 are expected" in done.stderr
    assert museserve("weights", "verify", "--for", "voices", "--config", config).stdout.count("✗ supertonic-3/") == 16


def test_weights_that_do_not_exist_are_refused(museserve) -> None:
    assert_refused(museserve("weights", "download", "unet.pth"), "unet.pth: no such model file", "musetalkV15/unet.pth")


def test_a_server_without_the_file_is_one_line(museserve, tmp_path: Path, hub) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"weights": {"mirror": hub.url}}))
    done = museserve("weights", "download", "whisper/config.json", "--to", tmp_path / "there", "--config", config)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("museserve: whisper/config.json: ") and "404" in done.stderr
    assert [path for path in (tmp_path / "there").rglob("*") if path.is_file()] == []


@pytest.mark.serve
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_start_that_is_stopped_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    """Started as a shell without job control starts what runs in the background: with SIGINT ignored."""
    before = set(Path("/tmp").glob("muse-*"))
    config = tmp_path / "config.yaml"
    config.write_text(f"server: {{port: 0, dashboard_port: 0}}\navatars: {{uri: {tmp_path}/avatars}}\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "museserve.app.cli", "serve", "--config", str(config)],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    deadline = time.monotonic() + 60
    while not (mine := set(Path("/tmp").glob("muse-*/ray")) - {path / "ray" for path in before}):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1.0)  # in the middle of Ray's start
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    assert process.wait(60) in (130, signal.SIGTERM)  # ours, or that of Ray's own handler
    assert not [path for path in mine if path.exists()]
    assert not psutil.wait_procs(started, timeout=10)[1]


def test_keys_are_made_listed_and_revoked(museserve, tmp_path: Path) -> None:
    made = museserve("keys", "create", "acme", "--scope", "speak", "--days", "30", "--name", "backend", "--file", tmp_path / "keys.json")
    assert made.returncode == 0 and made.stdout.startswith("msk_") and len(made.stdout.strip()) == 60
    key_id = made.stdout[4:16]
    listed = museserve("keys", "list", "--file", tmp_path / "keys.json").stdout
    assert key_id in listed and "acme" in listed and "speak" in listed and "valid" in listed and "backend" in listed
    assert made.stdout.strip()[17:] not in listed + made.stderr
    assert museserve("keys", "revoke", key_id, "--file", tmp_path / "keys.json").returncode == 0
    assert "revoked" in museserve("keys", "list", "--file", tmp_path / "keys.json").stdout
    assert_refused(museserve("keys", "revoke", "000000000000", "--file", tmp_path / "keys.json"), key_id)
    assert_refused(museserve("keys", "create", "Acme", "--file", tmp_path / "other.json"), "Acme")


def test_a_service_that_others_reach_does_not_start_before_somebody_says_who_may_use_it(museserve, tmp_path: Path) -> None:
    said = museserve("serve", "--host", "0.0.0.0", "--port", 0)
    assert said.returncode == 1 and said.stdout == ""
    assert "server.host is 0.0.0.0" in said.stderr and "access.auth" in said.stderr and "museserve keys create" in said.stderr
    said = museserve("serve", "--auth", "keys", "--port", 0, env={"MUSESERVE_HOME": str(tmp_path)})
    assert said.returncode == 1 and "keys.json" in said.stderr and "museserve keys create" in said.stderr


# --- cache ---------------------------------------------------------------------------------------------------------------


def test_what_is_kept_of_texts_is_removed(museserve, tmp_path: Path) -> None:
    env = {"MUSESERVE_HOME": str(tmp_path / "home")}
    (tmp_path / "questions.txt").write_text("Hello there.\n")
    assert museserve("prerender", "questions.txt", env=env).stdout.startswith("made")
    kept = tmp_path / "home" / "utterances"
    assert [path for path in kept.rglob("*") if path.is_file()] and kept.stat().st_mode & 0o077 == 0
    cleared = museserve("cache", "clear", env=env)
    assert cleared.returncode == 0 and "is empty" in cleared.stderr
    assert not [path for path in kept.rglob("*") if path.is_file()]
    assert museserve("prerender", "questions.txt", env=env).stdout.startswith("made")


def test_a_service_that_is_not_there_is_told(museserve) -> None:
    assert_refused(museserve("cache", "clear", "--url", "http://127.0.0.1:1"), "cannot be reached")

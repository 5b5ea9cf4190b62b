"""What `museserve doctor` looks at: each part of an installation, tried for real, with a way to mend what fails."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from museserve.runtime import cpu

if TYPE_CHECKING:
    from configs.models import AppConfig

ENCODERS = {"libx264": "H.264 video", "aac": "AAC sound", "libmp3lame": "MP3 for the speech call", "libopus": "Opus for the speech call"}
DECODERS = ("mp3", "aac", "opus", "vorbis", "pcm_s16le")
SAMPLES = {"en": "Tell me about yourself.", "ko": "자기소개를 해 주세요."}
HEALTH_S = 3.0  # for a service that runs to say what it is
Finding = tuple[bool | None, str]  # the `ok` and `found` of a check


def _is_checkout() -> bool:
    import museserve

    return (Path(museserve.__file__).parents[1] / "Makefile").is_file()


def _reinstall() -> str:
    here = "make clean && make install" if _is_checkout() else "pip install --force-reinstall museserve"
    return f"install the project again in a fresh environment: {here}"


def _extra(name: str) -> str:
    """The command that adds one of the project's extras."""
    return f"pip install {'--editable ' if _is_checkout() else ''}'{'.' if _is_checkout() else 'museserve'}[{name}]'"


@dataclass(frozen=True)
class Check:
    """One line of the report. ok: None = worth knowing, not a fault. mend: what to do when it failed."""

    name: str
    ok: bool | None
    found: str
    mend: str = ""


def checks(config_source: str) -> Iterator[Check]:
    """Every check in turn, each when its turn comes. A check that raises is a failed check, never a traceback."""
    from configs.models import load_config
    from museserve.errors import ConfigError

    reinstall = _reinstall()
    yield _tried("python", "Python 3.10, 3.11 or 3.12 is needed", _python)
    yield _tried("machine", "the service takes about 3 GiB; use a machine with 4 or more", _machine)
    yield _tried("packages", reinstall, _packages)
    try:
        config = load_config(config_source)
    except ConfigError as error:
        yield Check("configuration", False, str(error), "mend the file that --config names")
        return
    yield Check("configuration", True, config_source)
    pyav = "PyAV's own wheels have them all: pip install --force-reinstall --only-binary av av"
    yield _tried("encoders", pyav, _codecs)
    yield _tried("landmark model", reinstall, _landmarks)
    yield _tried("avatars", "make the store writable or set avatars.uri", _avatars, config)
    for language in SAMPLES:
        yield _tried(f"voice {language}", reinstall, _voice, config, language)
    yield _tried("natural voices", "museserve weights verify --for voices", _natural, config)
    yield _tried("espeak-ng", reinstall, _espeak)
    yield _tried("speech provider", "set OPENAI_API_KEY or speech.engine: offline", _openai, config)
    yield _tried("transcription", "", _transcription, config)
    yield _tried("lexicon", "mend the file that speech.lexicon names, or leave the key out", _lexicon, config)
    yield _tried("lips", "do what it says, or set lipsync.engine: animator", _lips, config)
    yield _tried("cards", "lower deployments.*.num_gpus, or take --config local", _cards, config)
    yield _tried("access", f"museserve keys create TENANT --file {config.access.keys_path}, or museserve serve --auth none", _access, config)
    yield _tried("media root", "make the folder, or leave limits.media_root out", _media_root, config)
    yield _tried("provenance", f"mend the certificate that provenance.* names; {_extra('provenance')} brings what signs", _provenance, config)
    yield _tried("tracing", f"{_extra('tracing')}, or set tracing.exporter: file", _tracing, config)
    yield _tried("port", "stop what listens there, or museserve serve --port 0", _port, config)
    yield _tried("temporary files", "free some space, or set TMPDIR to a folder on another disk", _temporary)
    yield _tried("gpu", "", _gpu)


def _tried(name: str, mend: str, look: Callable[..., Finding], *arguments: object) -> Check:
    try:
        return Check(name, *look(*arguments), mend)
    except Exception as error:  # a broken installation fails in any way it likes; the report must go on
        return Check(name, False, f"{type(error).__name__}: {error}", mend)


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return (3, 10) <= sys.version_info < (3, 13), found


def _machine() -> Finding:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return memory >= 3.5, f"{cpu.usable_cores()} cores, {memory:.1f} GiB memory"


def _packages() -> Finding:
    from packaging.requirements import Requirement

    wrong, count = [], 0
    for line in requires("museserve") or []:
        needed = Requirement(line)
        if needed.marker and not needed.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            found = version(needed.name)
        except PackageNotFoundError:
            wrong.append(f"{needed.name} is missing")
            continue
        if not needed.specifier.contains(found, prereleases=True):
            wrong.append(f"{needed.name} {found} does not fit {needed.specifier}")
    return not wrong, "; ".join(wrong) or f"{count} as required, museserve {version('museserve')}"


def _codecs() -> Finding:
    import av

    missing = [f"{name} ({use})" for name, use in ENCODERS.items() if not _has_codec(name, "w")]
    missing += [f"decoder {name}" for name in DECODERS if not _has_codec(name, "r")]
    found = f"missing: {', '.join(missing)}" if missing else f"{', '.join(ENCODERS)} in PyAV {av.__version__}"
    return not missing, found


def _has_codec(name: str, mode: Literal["r", "w"]) -> bool:
    from av.codec import Codec

    try:
        Codec(name, mode)
    except ValueError:
        return False
    return True


def _landmarks() -> Finding:
    from musetalk.avatars.builtin import BUILTIN, shipped_portrait
    from musetalk.faces.mediapipe import find_faces

    faces = find_faces(shipped_portrait(BUILTIN[0]).portrait)
    return len(faces) == 1, f"{len(faces)} face found in a shipped portrait"


def _avatars(config: AppConfig) -> Finding:
    from musetalk.avatars.stores import shipped_store

    store = shipped_store(config, config.lipsync.avatar_cache_bytes, verify=True)
    names = [meta.id for meta in store.list()]
    return True, f"{len(names)} in {store.uri}: {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}"


def _voice(config: AppConfig, language: str) -> Finding:
    """The offline voice says a sentence, whatever engine is configured: it is what is fallen back on."""
    from museserve.messages import SpeechChunk, SpeechRequest
    from museserve.speech.engines import voices
    from museserve.speech.synthesizer import Synthesizer
    from museserve.timebase import SPEECH_RATE

    async def spoken() -> list[SpeechChunk]:
        synthesizer = Synthesizer(config.speech.model_copy(update={"engine": "offline"}), config.weights)
        return [chunk async for chunk in synthesizer.stream(SpeechRequest(SAMPLES[language], "auto", 1.0, language))]

    chunks = asyncio.run(spoken())
    loud = max(float(abs(chunk.pcm).max(initial=0)) for chunk in chunks) > 0.01
    seconds = sum(len(chunk.pcm) for chunk in chunks) / SPEECH_RATE if loud else 0.0
    return seconds > 0.5, f"{voices.TITLES[chunks[-1].engine]} spoke {seconds:.1f} s"


def _natural(config: AppConfig) -> Finding:
    from museserve.speech.engines import natural

    found = natural.find(config.speech, config.weights)
    return True if found.there else None, found.reason


def _espeak() -> Finding:
    import espeakng_loader

    from museserve.speech.engines import espeak_library
    from museserve.speech.text import japanese
    from museserve.speech.text.language import ESPEAK_NAMES, LANGUAGES

    library = espeak_library.load()
    mute = [tag for tag, text in SAMPLES.items() if not library.phonemize(text, tag)]
    names = [ESPEAK_NAMES.get(tag, tag) for tag in LANGUAGES]
    there = sum(os.path.exists(os.path.join(espeakng_loader.get_data_path(), f"{name}_dict")) for name in names)
    kanji = "kanji are read" if japanese.is_read() else f"kanji are not read: {_extra('ja')}"
    return not mute, f"no sounds for {', '.join(mute)}" if mute else f"dictionaries of {there} languages; {kanji}"


def _openai(config: AppConfig) -> Finding:
    key = bool(config.speech.openai.api_key or os.environ.get("OPENAI_API_KEY"))
    where = config.speech.openai.base_url or os.environ.get("OPENAI_BASE_URL") or "the public one"
    if config.speech.engine == "openai" and not key:
        return False, "speech.engine is openai, but no key is set"
    chosen = "offline voices" if config.speech.engine == "offline" or not key else f"OpenAI, server: {where}"
    return None, f"key {'set' if key else 'not set'}, so speech comes from: {chosen}"


def _transcription(config: AppConfig) -> Finding:
    options = config.transcription
    return None, f"{options.model}, server: {options.base_url}" if options.chosen else "none: what candidates say is not written down"


def _lexicon(config: AppConfig) -> Finding:
    from museserve.speech.text.lexicon import Lexicon

    if config.speech.lexicon is None:
        return None, "none of your own"
    Lexicon.load(config.speech.lexicon)
    return True, f"{config.speech.lexicon} is read"


def _lips(config: AppConfig) -> Finding:
    """What would draw, by what is on this machine: on a cluster its GPU nodes tell for themselves."""
    from musetalk.choice import missing_for_musetalk

    wanted = config.lipsync.engine
    if wanted == "animator":
        return True, "the animator, as lipsync.engine says"
    missing = missing_for_musetalk(config)
    if wanted == "musetalk":
        return not missing, missing or "MuseTalk, as lipsync.engine says"
    return True, f"the animator: {missing}" if missing else "MuseTalk"


def _cards(config: AppConfig) -> Finding:
    from museserve.app.local import enough_gpus, visible_gpus

    there = enough_gpus(config, visible_gpus())
    return True, f"{there} NVIDIA cards here, as many as the configuration asks for"


def _access(config: AppConfig) -> Finding:
    from museserve.access.keys import Keys

    if config.server.public:
        config.access.check_said(f"server.host is {config.server.host}, which other machines may reach")
    if config.access.auth != "keys":
        return True, f"whoever reaches {config.server.host} may use it"
    Keys(config.access.keys_path)
    return True, f"who has a key of {config.access.keys_path}"


def _media_root(config: AppConfig) -> Finding:
    root = config.limits.media_root
    if root is None:
        return None, "limits.media_root is not set, so audio_path is refused"
    return root.is_dir() and os.access(root, os.R_OK | os.X_OK), str(root)


def _provenance(config: AppConfig) -> Finding:
    from museserve.media.provenance import Marks

    signer = Marks(config.provenance).signer
    return True, "films are signed" if signer else "metadata alone; no certificate is configured"


def _tracing(config: AppConfig) -> Finding:
    if not config.tracing.enabled:
        return None, "off"
    if config.tracing.exporter == "file":
        return True, "to files"
    there = importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    return there, "to a collector" if there else "what sends traces to a collector is not installed"


def _port(config: AppConfig) -> Finding:
    from museserve.app.local import why_taken

    server = config.server
    where = f"{server.host}:{server.port}"
    if not (reason := why_taken(server.host, server.port)):
        return True, f"{where} is free"
    if (running := _running(server.host, server.port)) is not None:
        return None, f"{where}: museserve runs there, {running}; another one beside it takes --port 0"
    return False, f"{where}: {reason}"


def _running(host: str, port: int) -> str | None:
    """What a museserve that listens there says of itself; None when it is something else."""
    import httpx2

    try:
        told = httpx2.get(f"http://{host}:{port}/health", timeout=HEALTH_S).json()
    except (httpx2.HTTPError, ValueError):
        return None
    if not isinstance(told, dict) or told.get("status") not in ("ok", "starting"):
        return None
    what = [str(told["status"])]
    if isinstance(engine := told.get("engine"), dict):
        what.append(f"lips: {engine.get('name')}")
    if isinstance(versions := told.get("versions"), dict):
        what.append(f"version {versions.get('museserve')}")
    return ", ".join(what)


def _temporary() -> Finding:
    free = shutil.disk_usage(tempfile.gettempdir()).free / 2**30
    return free > 1, f"{free:.1f} GiB free in {tempfile.gettempdir()}"


def _gpu() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return None, "torch is not installed, and the CPU animator needs none"
    import torch  # type: ignore[import-not-found,unused-ignore]

    name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no CUDA device"
    return None, f"torch {torch.__version__}, {name}"

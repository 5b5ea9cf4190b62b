"""What `museserve doctor` looks at: each part of an installation, tried for real, with a way to mend what fails."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import platform
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING, Literal

from museserve.runtime import cpu

if TYPE_CHECKING:
    from configs.models import AppConfig

ENCODERS = {"libx264": "H.264 video", "aac": "AAC sound", "libmp3lame": "MP3 for the speech call", "libopus": "Opus for the speech call"}
DECODERS = ("mp3", "aac", "opus", "vorbis", "pcm_s16le")
SAMPLES = {"en": "Tell me about yourself.", "ko": "자기소개를 해 주세요."}
REINSTALL = "install the project again in a fresh environment: make clean && make install"


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

    yield _python()
    yield _machine()
    yield from _tried("packages", REINSTALL, _packages)
    try:
        config = load_config(config_source)
    except ConfigError as error:
        yield Check("configuration", False, str(error), "mend the file that --config names")
        return
    yield Check("configuration", True, config_source)
    parts: list[tuple[str, str, Callable[[], Iterator[Check]]]] = [
        ("encoders", "PyAV's own wheels have them all: pip install --force-reinstall --only-binary av av", _codecs),
        ("landmark model", REINSTALL, _landmarks),
        ("avatars", "make the store writable or set avatars.uri", lambda: _avatars(config)),
        ("voices", REINSTALL, lambda: _voices(config)),
        ("espeak-ng", REINSTALL, _espeak),
        ("speech provider", "set OPENAI_API_KEY or speech.engine: offline", lambda: _openai(config)),
        ("port", "stop what listens there, or museserve serve --port 0", lambda: _port(config)),
        ("temporary files", "free some space, or set TMPDIR to a folder on another disk", _temporary),
        ("gpu", "", _gpu),
    ]
    for name, mend, look in parts:
        yield from _tried(name, mend, look)


def _tried(name: str, mend: str, look: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    try:
        yield from look()
    except Exception as error:  # a broken installation fails in any way it likes; the report must go on
        yield Check(name, False, f"{type(error).__name__}: {error}", mend)


def _python() -> Check:
    fits = (3, 10) <= sys.version_info < (3, 13)
    return Check("python", fits, f"{platform.python_version()} on {platform.system()} {platform.machine()}", "Python 3.10, 3.11 or 3.12 is needed")


def _machine() -> Check:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    enough = memory >= 3.5
    return Check(
        "machine", enough, f"{cpu.usable_cores()} cores, {memory:.1f} GiB memory", "the service takes about 3 GiB; use a machine with 4 or more"
    )


def _packages() -> Iterator[Check]:
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
    yield Check("packages", not wrong, "; ".join(wrong) or f"{count} as required, museserve {version('museserve')}", REINSTALL)


def _codecs() -> Iterator[Check]:
    import av

    missing = [f"{name} ({use})" for name, use in ENCODERS.items() if not _has_codec(name, "w")]
    missing += [f"decoder {name}" for name in DECODERS if not _has_codec(name, "r")]
    found = f"missing: {', '.join(missing)}" if missing else f"{', '.join(ENCODERS)} in PyAV {av.__version__}"
    yield Check("encoders", not missing, found, "PyAV's own wheels have them all: pip install --force-reinstall --only-binary av av")


def _has_codec(name: str, mode: Literal["r", "w"]) -> bool:
    import av
    from av.codec import Codec

    try:
        Codec(name, mode)
    except (av.codec.codec.UnknownCodecError, ValueError):
        return False
    return True


def _landmarks() -> Iterator[Check]:
    from musetalk.avatars.builtin import BUILTIN, shipped_portrait
    from musetalk.faces.mediapipe import find_faces

    faces = find_faces(shipped_portrait(BUILTIN[0]).portrait)
    yield Check("landmark model", len(faces) == 1, f"{len(faces)} face found in a shipped portrait", REINSTALL)


def _avatars(config: AppConfig) -> Iterator[Check]:
    from musetalk.avatars.stores import shipped_store

    store = shipped_store(config, config.lipsync.avatar_cache_bytes)
    names = [meta.id for meta in store.list()]
    yield Check("avatars", True, f"{len(names)} in {store.uri}: {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}")


def _voices(config: AppConfig) -> Iterator[Check]:
    """The offline voices say a sentence in each language, whatever engine is configured: they are what is fallen back on."""
    from museserve.messages import SpeechRequest
    from museserve.speech.synthesizer import Synthesizer
    from museserve.timebase import SPEECH_RATE

    synthesizer = Synthesizer(config.speech.model_copy(update={"engine": "offline"}))

    async def spoken(text: str, language: str) -> tuple[float, str]:
        samples, engine, loudest = 0, "", 0.0
        async for chunk in synthesizer.stream(SpeechRequest(text, "auto", 1.0, language)):
            samples, engine = samples + len(chunk.pcm), chunk.engine or engine
            loudest = max(loudest, float(abs(chunk.pcm).max()) if len(chunk.pcm) else 0.0)
        return (samples / SPEECH_RATE if loudest > 0.01 else 0.0), engine

    for language, text in SAMPLES.items():
        seconds, engine = asyncio.run(spoken(text, language))
        yield Check(f"voice {language}", seconds > 0.5, f"{engine} spoke {seconds:.1f} s", REINSTALL)


def _espeak() -> Iterator[Check]:
    import espeakng_loader

    from museserve.speech.engines import espeak_library
    from museserve.speech.text.language import ESPEAK_NAMES, LANGUAGES

    library = espeak_library.load()
    mute = [tag for tag, text in SAMPLES.items() if not library.phonemize(text, tag)]
    names = [ESPEAK_NAMES.get(tag, tag) for tag in LANGUAGES]
    there = sum(os.path.exists(os.path.join(espeakng_loader.get_data_path(), f"{name}_dict")) for name in names)
    found = f"no sounds for {', '.join(mute)}" if mute else f"dictionaries of {there} languages"
    yield Check("espeak-ng", not mute, found, REINSTALL)


def _openai(config: AppConfig) -> Iterator[Check]:
    key = bool(config.speech.openai.api_key or os.environ.get("OPENAI_API_KEY"))
    where = config.speech.openai.base_url or os.environ.get("OPENAI_BASE_URL") or "the public one"
    if config.speech.engine == "openai" and not key:
        yield Check("speech provider", False, "speech.engine is openai, but no key is set", "set OPENAI_API_KEY or speech.engine: offline")
    else:
        chosen = "offline voices" if config.speech.engine == "offline" or not key else f"OpenAI, server: {where}"
        yield Check("speech provider", None, f"key {'set' if key else 'not set'}, so speech comes from: {chosen}")


def _port(config: AppConfig) -> Iterator[Check]:
    server = config.server
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((server.host, server.port))
        except OSError as error:
            yield Check("port", False, f"{server.host}:{server.port}: {error.strerror}", "stop what listens there, or museserve serve --port 0")
        else:
            yield Check("port", True, f"{server.host}:{server.port} is free")


def _temporary() -> Iterator[Check]:
    import shutil

    free = shutil.disk_usage(tempfile.gettempdir()).free / 2**30
    yield Check(
        "temporary files", free > 1, f"{free:.1f} GiB free in {tempfile.gettempdir()}", "free some space, or set TMPDIR to a folder on another disk"
    )


def _gpu() -> Iterator[Check]:
    if importlib.util.find_spec("torch") is None:
        yield Check("gpu", None, "torch is not installed, and the CPU animator needs none")
        return
    import torch  # type: ignore[import-not-found,unused-ignore]

    name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no CUDA device"
    yield Check("gpu", None, f"torch {torch.__version__}, {name}")

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
from typing import TYPE_CHECKING, Literal

from museserve.runtime import cpu

if TYPE_CHECKING:
    from configs.models import AppConfig

ENCODERS = {"libx264": "H.264 video", "aac": "AAC sound", "libmp3lame": "MP3 for the speech call", "libopus": "Opus for the speech call"}
DECODERS = ("mp3", "aac", "opus", "vorbis", "pcm_s16le")
SAMPLES = {"en": "Tell me about yourself.", "ko": "자기소개를 해 주세요."}
REINSTALL = "install the project again in a fresh environment: make clean && make install"
Finding = tuple[bool | None, str]  # the `ok` and `found` of a check


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

    yield _tried("python", "Python 3.10, 3.11 or 3.12 is needed", _python)
    yield _tried("machine", "the service takes about 3 GiB; use a machine with 4 or more", _machine)
    yield _tried("packages", REINSTALL, _packages)
    try:
        config = load_config(config_source)
    except ConfigError as error:
        yield Check("configuration", False, str(error), "mend the file that --config names")
        return
    yield Check("configuration", True, config_source)
    pyav = "PyAV's own wheels have them all: pip install --force-reinstall --only-binary av av"
    yield _tried("encoders", pyav, _codecs)
    yield _tried("landmark model", REINSTALL, _landmarks)
    yield _tried("avatars", "make the store writable or set avatars.uri", _avatars, config)
    for language in SAMPLES:
        yield _tried(f"voice {language}", REINSTALL, _voice, config, language)
    yield _tried("natural voices", "museserve weights verify --for voices", _natural, config)
    yield _tried("espeak-ng", REINSTALL, _espeak)
    yield _tried("speech provider", "set OPENAI_API_KEY or speech.engine: offline", _openai, config)
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
    kanji = "kanji are read" if japanese.is_read() else "kanji are not read: pip install 'museserve[ja]'"
    return not mute, f"no sounds for {', '.join(mute)}" if mute else f"dictionaries of {there} languages; {kanji}"


def _openai(config: AppConfig) -> Finding:
    key = bool(config.speech.openai.api_key or os.environ.get("OPENAI_API_KEY"))
    where = config.speech.openai.base_url or os.environ.get("OPENAI_BASE_URL") or "the public one"
    if config.speech.engine == "openai" and not key:
        return False, "speech.engine is openai, but no key is set"
    chosen = "offline voices" if config.speech.engine == "offline" or not key else f"OpenAI, server: {where}"
    return None, f"key {'set' if key else 'not set'}, so speech comes from: {chosen}"


def _port(config: AppConfig) -> Finding:
    from museserve.app.local import why_taken

    reason = why_taken(config.server.host, config.server.port)
    return not reason, f"{config.server.host}:{config.server.port}{f': {reason}' if reason else ' is free'}"


def _temporary() -> Finding:
    free = shutil.disk_usage(tempfile.gettempdir()).free / 2**30
    return free > 1, f"{free:.1f} GiB free in {tempfile.gettempdir()}"


def _gpu() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return None, "torch is not installed, and the CPU animator needs none"
    import torch  # type: ignore[import-not-found,unused-ignore]

    name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no CUDA device"
    return None, f"torch {torch.__version__}, {name}"

"""The parsers of ours that strangers' bytes reach: each takes any bytes, and raises nothing but what it says that it raises.

A target is a function of bytes that asserts what must hold for all of them. `tests/fuzz/corpus/` has a folder of seeds for each.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from configs.models import ClipConfig, load_config
from deployments.ingress import bodies
from deployments.ingress.sessions import protocol
from deployments.ingress.uploads import _json_object
from museserve.errors import AudioError, ClipError, ConfigError, ImageError, RenderError, RequestError, TextError
from museserve.media.clip import is_clip, read_clip
from museserve.media.codecs import codecs_of
from museserve.media.decode import decode_speech
from museserve.speech.engines import voices
from museserve.speech.request import parse_delivery, parse_speech
from museserve.speech.text import sentences
from museserve.speech.text.clean import canonical, clean
from museserve.speech.text.deltas import TextDeltas
from museserve.speech.text.language import LANGUAGES, base_tag, detect
from museserve.speech.text.lexicon import Lexicon
from museserve.speech.text.normalize import normalize
from musetalk.avatars import arrow_file
from musetalk.avatars.format import AvatarMeta
from musetalk.faces.framing import read_portrait

CORPUS = Path(__file__).parent / "corpus"
Target = Callable[[bytes], None]
TARGETS: dict[str, Target] = {}
MAX_CHARS = 4_096
BODIES = (bodies.VideoBody, bodies.PrerenderBody, bodies.SpeechBody, bodies.SynthesizeBody, bodies.InterviewBody, bodies.AvatarBody, bodies.ImageBody)


def target(function: Target) -> Target:
    TARGETS[function.__name__] = function
    return function


@cache
def lexicon() -> Lexicon:
    return Lexicon.load()


def text_of(data: bytes) -> str:
    """Any text, halves of surrogate pairs included, as JSON may bring them."""
    return data.decode("utf-8", "surrogatepass" if data[:1] != b"\xff" else "replace") if _is_text(data) else data.decode("latin-1")


def _is_text(data: bytes) -> bool:
    with suppress(UnicodeDecodeError):
        data.decode("utf-8", "surrogatepass")
        return True
    return False


@target
def session_message(data: bytes) -> None:
    """The messages of a session's client: what is accepted is the same again when it is written down."""
    for parse in (protocol.parse_first, protocol.parse):
        try:
            message: Any = parse(data)
        except RequestError as error:
            assert str(error) and len(str(error)) < 2_000
            continue
        assert parse(json.dumps(message.model_dump(exclude_none=True))) == message


@target
def session_query(data: bytes) -> None:
    from urllib.parse import parse_qsl

    query = dict(parse_qsl(data.decode("latin-1"), keep_blank_values=True, max_num_fields=None))
    with suppress(RequestError):
        protocol.parse_query(query)


@target
def frame_header(data: bytes) -> None:
    with suppress(ValueError):
        header = protocol.FrameHeader.unpack(data)
        assert protocol.FrameHeader.unpack(header.pack()) == header


@target
def json_body(data: bytes) -> None:
    """The bodies of HTTP calls, as every model reads them."""
    try:
        fields = _json_object(data)
    except RequestError:
        return
    for model in BODIES:
        with suppress(RequestError):
            bodies.parse(model, fields)


@target
def text(data: bytes) -> None:
    """From a written text to what a voice is given: every letter is in one clause, and none is longer than allowed."""
    written = text_of(data)
    try:
        request = parse_speech(written, parse_delivery("nova", 1.0, "auto"), MAX_CHARS)
    except TextError:
        return
    cleaned = clean(request.text).text
    for clause in sentences.split(request.text, 48, 300):
        assert 0 <= clause.start <= clause.end <= len(request.text)
        assert detect(clause.text) in LANGUAGES
    for language in ("en", "ko", "ja"):
        spoken = normalize(request.text, language, lexicon())
        assert isinstance(spoken.text, str)
        if language == "ko":
            assert not any(letter.isascii() and letter.isalnum() for letter in spoken.text), spoken.text
    assert isinstance(cleaned, str)


@target
def text_deltas(data: bytes) -> None:
    """However a text is cut into deltas, all of it is taken, once and in order. The first byte is the length of the pieces."""
    size, written = 1 + data[0] if data else 1, text_of(data[1:])
    deltas = TextDeltas(MAX_CHARS)
    taken, ends = "", 0
    try:
        for at in range(0, len(written), size):
            deltas.add(written[at : at + size], final=at + size >= len(written))
            while part := deltas.take():
                assert deltas.taken[0] >= ends
                ends = deltas.taken[1]
                taken += part
        if not written:
            deltas.add("", final=True)
    except TextError:
        return
    assert deltas.done

    def heard(text: str) -> str:
        return "".join(c for c in canonical(text) if c.isalnum())

    assert sorted(heard(taken)) == sorted(heard(written))


@target
def names(data: bytes) -> None:
    """A voice and a language, as a caller names them."""
    written = text_of(data)
    with suppress(RequestError):
        voices.parse_name(written)
    with suppress(RequestError):
        assert base_tag(written)


@target
def lexicon_file(data: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        file.write(data)
        file.flush()
        with suppress(ConfigError):
            made = Lexicon.load(Path(file.name))
            normalize("AWS 3.5 GB 2024", "ko", made)


@target
def config_file(data: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        file.write(data)
        file.flush()
        with suppress(ConfigError):
            load_config(Path(file.name))


@target
def avatar_facts(data: bytes) -> None:
    """`current.json` of a store."""
    with suppress(ValueError):
        AvatarMeta.model_validate_json(data)


@target
def avatar_arrays(data: bytes) -> None:
    """The arrays of a store's avatar."""
    with suppress(ValueError, TypeError, KeyError, OSError):
        for array in arrow_file.from_buffer(pa.py_buffer(data)).values():
            np.asarray(array).sum()


@target
def init_segment(data: bytes) -> None:
    with suppress(RenderError):
        assert codecs_of(data).startswith("avc1.")


@target
def recording(data: bytes) -> None:
    """Recorded speech in any format."""
    try:
        pcm = decode_speech(data, min_s=0.2, max_s=10)
    except AudioError as error:
        assert str(error)
        return
    assert pcm.dtype == np.float32 and 0.2 * 24_000 <= len(pcm) <= 11 * 24_000 and bool(np.isfinite(pcm).all()) and float(np.abs(pcm).max()) <= 1


@target
def portrait(data: bytes) -> None:
    try:
        picture = read_portrait(data, max_pixels=4_000_000)
    except ImageError as error:
        assert str(error)
        return
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3 and picture.size <= 12_000_000


@target
def clip(data: bytes) -> None:
    is_clip(data)
    limits = ClipConfig(max_s=2)
    try:
        for frame in read_clip(data, limits):
            assert frame.dtype == np.uint8 and min(frame.shape[:2]) <= limits.side
    except ClipError as error:
        assert str(error)


MEDIA = ("recording", "portrait", "clip", "avatar_arrays")

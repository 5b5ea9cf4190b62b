"""What a film says of its origin: read back by C2PA's own reader and by an XML parser, and a changed byte is found."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import c2pa
import numpy as np
import pytest

from configs.models import AppConfig, ProvenanceConfig, parse_config
from museserve.errors import ConfigError
from museserve.media.encode import init_segment
from museserve.media.fragments import STREAM_END
from museserve.media.mp4 import to_mp4
from museserve.media.provenance import IN_MEMORY, XMP_UUID, Marks, Origin, SentStream, Signer, metadata
from tests import decoded
from tests.certificates import make_chain
from tests.museserve.media.clips import CONFIG, SIDE, clicks, film

ORIGIN = Origin("interviewer_woman", "0123456789abcdef", uploaded=False, voice="hibari", lips="animator")
SOURCE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"


@pytest.fixture(scope="module")
def fragments() -> list[bytes]:
    return film(clicks(60_000, [4_800, 30_001, 58_000]))


@pytest.fixture(scope="module")
def plain(fragments: list[bytes]) -> bytes:
    out = io.BytesIO()
    to_mp4([init_segment(SIDE, SIDE, CONFIG), *fragments], out)
    return out.getvalue()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ProvenanceConfig:
    return ProvenanceConfig.model_validate(make_chain(tmp_path_factory.mktemp("chain")))


def state(data: bytes, manifest: bytes | None = None) -> str:
    """ "Valid" also where nobody here trusts the signer."""
    try:
        return str(c2pa.Reader("video/mp4", io.BytesIO(data), manifest_data=manifest).get_validation_state())
    except c2pa.C2paError:
        return "Unreadable"


def told(data: bytes, manifest: bytes | None = None) -> dict[str, Any]:
    active: dict[str, Any] = c2pa.Reader("video/mp4", io.BytesIO(data), manifest_data=manifest).get_active_manifest()
    return {one["label"]: one["data"] for one in active["assertions"]}


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 0
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        found.append((data[at + 4 : at + 8], data[at + 8 : at + size]))
        at += size
    assert at == len(data)
    return found


def source_type(data: bytes) -> str:
    """As a program that knows XMP finds it."""
    (packet,) = [content[16:] for kind, content in boxes(data) if kind == b"uuid" and content.startswith(XMP_UUID)]
    (description,) = ElementTree.fromstring(packet.decode()).iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    return description.attrib[SOURCE]


@pytest.mark.parametrize(
    ("origin", "kind"),
    [
        (ORIGIN, "trainedAlgorithmicMedia"),
        (replace(ORIGIN, uploaded=True), "compositeSynthetic"),
        (replace(ORIGIN, voice=""), "compositeSynthetic"),
    ],
)
def test_without_a_certificate_metadata_says_it(plain: bytes, origin: Origin, kind: str) -> None:
    marked = Marks(ProvenanceConfig()).finish(plain, origin)
    assert source_type(marked) == f"http://cv.iptc.org/newscodes/digitalsourcetype/{kind}"
    assert marked.startswith(plain) and len(marked) - len(plain) < 700
    assert np.array_equal(decoded.pictures(marked), decoded.pictures(plain)) and np.array_equal(decoded.sound(marked), decoded.sound(plain))
    assert Marks(ProvenanceConfig(metadata=False)).finish(plain, origin) == plain


def test_a_streams_beginning_says_it_and_plays(fragments: list[bytes]) -> None:
    init = init_segment(SIDE, SIDE, CONFIG)
    stream = Marks(ProvenanceConfig()).begin(init + fragments[0], ORIGIN) + b"".join(fragments[1:])
    assert [kind for kind, _ in boxes(stream)][:3] == [b"ftyp", b"uuid", b"moov"]
    assert source_type(stream).endswith("trainedAlgorithmicMedia")
    assert np.array_equal(decoded.pictures(stream), decoded.pictures(init + b"".join(fragments)))


def test_a_finished_film_is_signed_inside(plain: bytes, config: ProvenanceConfig) -> None:
    signed = Marks(config).finish(plain, replace(ORIGIN, uploaded=True))
    assert state(signed) == "Valid"
    known = told(signed)
    (action,) = known["c2pa.actions.v2"]["actions"]
    assert action["action"] == "c2pa.created" and action["digitalSourceType"].endswith("/compositeSynthetic")
    assert known["museserve.generation"] == {
        "avatar": "interviewer_woman",
        "avatarVersion": "0123456789abcdef",
        "portrait": "uploaded",
        "lips": "animator",
        "speech": "hibari",
    }
    assert source_type(signed).endswith("/compositeSynthetic")
    assert np.array_equal(decoded.pictures(signed), decoded.pictures(plain)) and np.array_equal(decoded.sound(signed), decoded.sound(plain))
    for at in (len(signed) - 5, len(signed) // 2, len(signed) - len(metadata(ORIGIN)) - 50):
        assert state(flipped(signed, at)) in ("Invalid", "Unreadable"), at


def test_a_stream_is_signed_beside(fragments: list[bytes], config: ProvenanceConfig) -> None:
    signer = Signer(config)
    parts = [Marks(config).begin(init_segment(SIDE, SIDE, CONFIG) + fragments[0], ORIGIN), *fragments[1:], STREAM_END]
    sent = SentStream(signer)
    for part in parts:
        sent.add(part)
    manifest, stream = sent.manifest(ORIGIN), b"".join(parts)
    sent.close()
    assert state(stream, manifest) == "Valid" and len(manifest) < 6_000
    assert told(stream, manifest)["museserve.generation"]["portrait"] == "shipped with museserve"
    for at in (60, len(stream) // 2, len(stream) - 40):
        assert state(flipped(stream, at), manifest) in ("Invalid", "Unreadable"), at
    assert state(stream[: -len(STREAM_END) - len(fragments[-1])], manifest) == "Invalid"


def test_a_long_stream_is_signed_as_well(config: ProvenanceConfig) -> None:
    box = struct.pack(">I4s", IN_MEMORY, b"mdat") + bytes(IN_MEMORY - 8)
    init = init_segment(SIDE, SIDE, CONFIG)
    sent = SentStream(Signer(config))
    for part in (init, box, box):
        sent.add(part)
    manifest = sent.manifest(ORIGIN)
    sent.close()
    assert state(init + box + box, manifest) == "Valid" and state(init + box + box[:-1] + b"1", manifest) == "Invalid"


def test_what_is_wrong_with_a_certificate_is_told_at_start(config: ProvenanceConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"provenance.key: .*No such file"):
        Signer(config.model_copy(update={"key": tmp_path / "nowhere.pem"}))
    (tmp_path / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    with pytest.raises(ConfigError, match="certificate and key do not sign"):
        Signer(config.model_copy(update={"certificate": tmp_path / "broken.pem"}))
    other = make_chain(tmp_path)
    with pytest.raises(ConfigError, match="certificate and key do not sign"):
        Signer(config.model_copy(update={"key": Path(other["key"])}))
    with pytest.raises(ConfigError, match="certificate and key go together"):
        parse_config({"provenance": {"key": "a.pem"}})
    assert Signer.of(AppConfig().provenance) is None

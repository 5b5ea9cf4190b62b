"""What says of a video that it was generated: metadata that everybody can write, and a signed C2PA manifest where the operator has a certificate.

A finished film carries both inside. The manifest of a stream lies beside it: it is signed when the last byte is known.
"""

from __future__ import annotations

import io
import json
import struct
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast
from xml.sax.saxutils import escape

import museserve
from configs.models import ProvenanceConfig
from museserve.errors import ConfigError, EngineError

MP4 = "video/mp4"
IN_MEMORY = 4 * 2**20  # of a stream that is not over
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"  # IPTC's vocabulary, which C2PA uses, too
XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # of the box that XMP lies in (XMP specification, part 3)
XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF \
xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" \
xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmp:CreatorTool="{tool}" \
Iptc4xmpExt:DigitalSourceType="{source}"/></rdf:RDF></x:xmpmeta><?xpacket end="r"?>"""


@dataclass(frozen=True)
class Origin:
    """What a video was generated from, and by what.

    avatar, version: its id, of which the tenant is not told, and version. uploaded: it was made of somebody's portrait or
    clip. voice: the engine that spoke, empty where recorded speech was uploaded. lips: the engine that drew.
    """

    avatar: str
    version: str
    uploaded: bool
    voice: str
    lips: str

    @property
    def recorded(self) -> bool:
        return not self.voice or self.voice == "upload"

    @property
    def source_type(self) -> str:
        """IPTC's name for it: wholly generated, or a mix with what a person recorded."""
        return SOURCE_TYPES + ("compositeSynthetic" if self.uploaded or self.recorded else "trainedAlgorithmicMedia")

    def manifest(self) -> dict[str, Any]:
        """What C2PA is told. Says nothing of what is spoken."""
        tool = {"name": "museserve", "version": museserve.__version__}
        made = {"action": "c2pa.created", "digitalSourceType": self.source_type, "softwareAgent": tool}
        parts = {
            "avatar": self.avatar.rpartition(".")[2],  # whose it is is nobody's business
            "avatarVersion": self.version,
            "portrait": "uploaded" if self.uploaded else "shipped with museserve",
            "lips": self.lips,
            "speech": "recorded and uploaded" if self.recorded else self.voice,
        }
        return {
            "claim_generator_info": [tool],
            "title": "museserve",
            "format": MP4,
            "assertions": [
                {"label": "c2pa.actions.v2", "data": {"actions": [made]}},
                {"label": "museserve.generation", "data": parts},
            ],
        }


def metadata(origin: Origin) -> bytes:
    """A box that tells of an mp4 that it was generated; it may stand between any two boxes of the file, and players skip it."""
    tool = f"museserve {museserve.__version__}"
    xmp = XMP.format(tool=escape(tool), source=origin.source_type).encode()
    return struct.pack(">I4s", 24 + len(xmp), b"uuid") + XMP_UUID + xmp


def with_metadata(stream: bytes, origin: Origin) -> bytes:
    """The beginning of a stream, marked behind its first box (ftyp)."""
    (first,) = struct.unpack_from(">I", stream)
    return stream[:first] + metadata(origin) + stream[first:]


class Signer:
    """Signs by the configured certificate. Thread-safe; a signature takes some milliseconds, more with a time-stamp server.

    Raises:
        ConfigError: the package c2pa-python is missing, a file cannot be read, or they do not sign.
    """

    def __init__(self, config: ProvenanceConfig) -> None:
        try:
            import c2pa
        except ImportError:
            raise ConfigError("provenance.certificate is set and c2pa-python is not installed: pip install 'museserve[provenance]'") from None
        self._c2pa, self._config = c2pa, config
        self._certificate, self._key = (_read(name, getattr(config, name)) for name in ("certificate", "key"))
        try:
            self.sidecar(io.BytesIO(TRIED), Origin("none", "", False, "none", "none"))
        except EngineError as error:
            raise ConfigError(f"provenance: certificate and key do not sign: {error}") from None

    @classmethod
    def of(cls, config: ProvenanceConfig) -> Signer | None:
        """None where no certificate is configured. Raises ConfigError."""
        return None if config.certificate is None else cls(config)

    def sign(self, source: BinaryIO, target: BinaryIO, origin: Origin) -> None:
        """An mp4 with its manifest inside. target: also read, so not only written to. Raises EngineError."""
        self._sign(source, target, origin, embed=True)

    def sidecar(self, source: BinaryIO, origin: Origin) -> bytes:
        """The manifest of an mp4 that stays as it is. Raises EngineError."""
        return self._sign(source, io.BytesIO(), origin, embed=False)

    def _sign(self, source: BinaryIO, target: BinaryIO, origin: Origin, *, embed: bool) -> bytes:
        c2pa, url = self._c2pa, self._config.timestamp_url
        algorithm = c2pa.C2paSigningAlg[self._config.algorithm.upper()]
        try:
            info = c2pa.C2paSignerInfo(algorithm, self._certificate, self._key, url.encode() if url else None)
            with c2pa.Signer.from_info(info) as signer, c2pa.Builder.from_json(json.dumps(origin.manifest())) as builder:
                if not embed:
                    builder.set_no_embed()
                return bytes(builder.sign(signer, MP4, source, target))
        except c2pa.C2paError as error:
            raise EngineError(f"the manifest could not be signed: {error}") from None


class SentStream:
    """What was sent of a stream, for as long as it takes to sign it. `close` it."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # a longer one waits in a file without a name

    def add(self, data: bytes) -> None:
        self._file.write(data)

    def manifest(self, origin: Origin) -> bytes:
        """Takes milliseconds. Raises EngineError."""
        self._file.seek(0)
        return self._signer.sidecar(cast("BinaryIO", self._file), origin)

    def close(self) -> None:
        self._file.close()


class Marks:
    """What finished films and streams are marked with, by the configuration."""

    def __init__(self, config: ProvenanceConfig) -> None:
        self._config = config

    @cached_property
    def signer(self) -> Signer | None:
        """Raises ConfigError."""
        return Signer.of(self._config)

    def finish(self, film: bytes, origin: Origin) -> bytes:
        """A finished film with what is configured. Raises EngineError."""
        if self._config.metadata:
            film += metadata(origin)
        if self.signer is not None:
            target = io.BytesIO()
            self.signer.sign(io.BytesIO(film), target, origin)
            film = target.getvalue()
        return film

    def begin(self, stream: bytes, origin: Origin) -> bytes:
        """The same for the beginning of a stream, which is signed at its end."""
        return with_metadata(stream, origin) if self._config.metadata else stream


def _read(name: str, path: Path | None) -> bytes:
    if path is None:
        raise ConfigError(f"provenance.{name} is missing")
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(f"provenance.{name}: {path}: {error.strerror}") from None


# The least that is an mp4: what the certificate is tried on at start.
TRIED = struct.pack(">I4s4sI4s", 20, b"ftyp", b"isom", 0, b"isom") + struct.pack(">I4sI4s", 16, b"moov", 8, b"free") + struct.pack(">I4s", 8, b"mdat")

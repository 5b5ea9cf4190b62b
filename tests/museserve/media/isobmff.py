"""What a fragment says of itself: a small reader of ISO 14496-12 boxes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

NON_SYNC = 0x0001_0000


@dataclass(frozen=True)
class TrackFragment:
    """One traf: its samples in order. Times and durations in the track's timescale; sizes in bytes; `sync` marks key frames."""

    track: int
    decode_time: int
    durations: tuple[int, ...]
    sizes: tuple[int, ...]
    sync: tuple[bool, ...]
    decode_time_at: int  # where in the data the decode time stands, 8 bytes

    @property
    def duration(self) -> int:
        return sum(self.durations)


@dataclass(frozen=True)
class FragmentInfo:
    """One moof with the mdat after it: `n_bytes` of both together, `payload` bytes of media."""

    sequence: int
    tracks: tuple[TrackFragment, ...]
    n_bytes: int
    payload: int


def boxes(data: bytes | memoryview, start: int = 0, end: int | None = None) -> Iterator[tuple[str, int, int, int]]:
    """Boxes side by side in data[start:end]: (kind, start of the box, start of its content, end).

    Raises:
        ValueError: a box that leaves the data.
    """
    end = len(data) if end is None else end
    while start < end:
        size, header = 0, 8
        if end - start >= 8:
            size = struct.unpack_from(">I", data, start)[0]
        if size == 1 and end - start >= 16:
            size, header = struct.unpack_from(">Q", data, start + 8)[0], 16
        if size < header or start + size > end:
            raise ValueError(f"no whole box at byte {start}: it claims {size} bytes of {end - start}")
        yield bytes(data[start + 4 : start + 8]).decode("latin-1"), start, start + header, start + size
        start += size


def parse_fragments(data: bytes) -> list[FragmentInfo]:
    """The fragments of a stream in order; ftyp, moov and what else lies between is passed over.

    Raises:
        ValueError: cut or malformed boxes, or a moof with no mdat after it.
    """
    found: list[FragmentInfo] = []
    moof: tuple[int, int, int] | None = None
    for kind, start, content, end in boxes(data):
        if kind == "moof":
            if moof is not None:
                raise ValueError(f"the moof at byte {moof[0]} has no mdat")
            moof = start, content, end
        elif kind == "mdat":
            if moof is None:
                raise ValueError(f"the mdat at byte {start} has no moof")
            found.append(_moof(data, moof[1], moof[2], n_bytes=end - moof[0], payload=end - content))
            moof = None
    if moof is not None:
        raise ValueError(f"the moof at byte {moof[0]} has no mdat")
    return found


def _moof(data: bytes, content: int, end: int, *, n_bytes: int, payload: int) -> FragmentInfo:
    sequence, tracks = 0, []
    for kind, _, inside, stop in boxes(data, content, end):
        if kind == "mfhd":
            sequence = struct.unpack_from(">I", data, inside + 4)[0]
        elif kind == "traf":
            tracks.append(_traf(data, inside, stop))
    return FragmentInfo(sequence, tuple(tracks), n_bytes, payload)


def _traf(data: bytes, content: int, end: int) -> TrackFragment:
    track = decode_time = decode_time_at = 0
    defaults = {"duration": 0, "size": 0, "flags": 0}
    durations: list[int] = []
    sizes: list[int] = []
    flags: list[int] = []
    for kind, _, inside, _ in boxes(data, content, end):
        version, bits = data[inside], int.from_bytes(data[inside + 1 : inside + 4], "big")
        if kind == "tfhd":
            track = struct.unpack_from(">I", data, inside + 4)[0]
            at = inside + 8 + (8 if bits & 1 else 0) + (4 if bits & 2 else 0)
            for bit, name in ((8, "duration"), (16, "size"), (32, "flags")):
                if bits & bit:
                    defaults[name] = struct.unpack_from(">I", data, at)[0]
                    at += 4
        elif kind == "tfdt":
            if version != 1:
                raise ValueError("a decode time of 32 bits; this project writes 64")
            decode_time_at = inside + 4
            decode_time = struct.unpack_from(">Q", data, decode_time_at)[0]
        elif kind == "trun":
            count = struct.unpack_from(">I", data, inside + 4)[0]
            at = inside + 8 + (4 if bits & 1 else 0)
            first_flags = None
            if bits & 4:
                first_flags = struct.unpack_from(">I", data, at)[0]
                at += 4
            for i in range(count):
                sample = dict(defaults)
                if i == 0 and first_flags is not None:
                    sample["flags"] = first_flags
                for bit, name in ((0x100, "duration"), (0x200, "size"), (0x400, "flags"), (0x800, "offset")):
                    if bits & bit:
                        sample[name] = struct.unpack_from(">I", data, at)[0]
                        at += 4
                durations.append(sample["duration"])
                sizes.append(sample["size"])
                flags.append(sample["flags"])
    sync = tuple(not flag & NON_SYNC for flag in flags)
    return TrackFragment(track, decode_time, tuple(durations), tuple(sizes), sync, decode_time_at)


def rebase(fragment: bytes, decode_times: dict[int, int]) -> bytes:
    """The same moof + mdat at another time. decode_times: track -> time in that track's timescale; others stay."""
    moved = bytearray(fragment)
    for info in parse_fragments(fragment):
        for track in info.tracks:
            if track.track in decode_times:
                struct.pack_into(">Q", moved, track.decode_time_at, decode_times[track.track])
    return bytes(moved)

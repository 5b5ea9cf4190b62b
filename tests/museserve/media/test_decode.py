from __future__ import annotations

import io
import logging
import os
import struct
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import soundfile

from museserve.errors import AudioError
from museserve.media.decode import decode_speech

SECONDS = 2


def recording(
    container: str, codec: str, rate: int = 48_000, channels: int = 1, *, video: bool = False, seconds: float = SECONDS, level: float = 0.3
) -> bytes:
    """A 440 Hz tone as a phone or browser would send it, with moving pictures before it if `video`."""
    out = io.BytesIO()
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
    with av.open(out, "w", format=container) as file:
        pictures = file.add_stream("libvpx" if container == "webm" else "libx264", rate=10) if video else None
        sound: Any = file.add_stream(codec, rate=rate)
        sound.codec_context.layout = layout
        if pictures is not None:
            pictures.width = pictures.height = 64
            pictures.pix_fmt = "yuv420p"
            for _ in range(10 * SECONDS):
                file.mux(pictures.encode(av.VideoFrame(64, 64, "yuv420p")))
            file.mux(pictures.encode(None))
        tone = level * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate) * 32_767
        samples = np.repeat(tone.astype(np.int16), channels)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        file.mux(sound.encode(frame))
        file.mux(sound.encode(None))
    return out.getvalue()


MP3 = recording("mp3", "libmp3lame", 44_100, 2)
WAV = recording("wav", "pcm_s16le", 8_000)


def refused(source: bytes | Path, min_s: float = 0.2, max_s: float = 60) -> str:
    with pytest.raises(AudioError) as caught:
        decode_speech(source, min_s=min_s, max_s=max_s)
    return str(caught.value)


@pytest.mark.parametrize(
    "kind",
    [
        ("mp3", "libmp3lame", 44_100, 2),
        ("mp3", "libmp3lame", 16_000, 1),
        ("wav", "pcm_s16le", 8_000, 1),
        ("wav", "pcm_f32le", 48_000, 2),
        ("wav", "pcm_mulaw", 8_000, 1),
        ("ipod", "aac", 44_100, 2),
        ("ogg", "libopus", 48_000, 1),
        ("webm", "libopus", 48_000, 1),
        ("matroska", "libopus", 48_000, 2),
        ("flac", "flac", 96_000, 2),
        ("wav", "pcm_s16le", 48_000, 6),
        ("adts", "aac", 24_000, 1),
        ("amr", "libopencore_amrnb", 8_000, 1),
        ("aiff", "pcm_s16be", 44_100, 1),
        ("caf", "pcm_s16le", 44_100, 1),
        ("mp4", "alac", 44_100, 2),
    ],
    ids=lambda kind: "-".join(map(str, kind)),
)
def test_what_phones_and_browsers_send(kind: tuple[str, str, int, int]) -> None:
    pcm = decode_speech(recording(*kind), min_s=0.2, max_s=60)
    assert pcm.dtype == np.float32 and pcm.ndim == 1
    assert abs(len(pcm) / 24_000 - SECONDS) < 0.08
    middle = pcm[12_000:36_000]
    assert np.argmax(np.abs(np.fft.rfft(middle))) == 440
    if kind[0] != "amr" and kind[3] < 6:  # a coder for telephones keeps no levels; 5.1 adds up its channels
        assert abs(np.sqrt(np.mean(middle**2)) - 0.3 / np.sqrt(2)) < 0.02, "stereo is as loud as mono"
    assert np.abs(pcm).max() <= 1


@pytest.mark.parametrize("kind", [("mp4", "aac"), ("webm", "libopus"), ("mov", "aac"), ("mpegts", "aac")])
def test_the_sound_of_a_video(kind: tuple[str, str]) -> None:
    pcm = decode_speech(recording(*kind, video=True), min_s=0.2, max_s=60)
    assert abs(len(pcm) / 24_000 - SECONDS) < 0.08
    assert np.argmax(np.abs(np.fft.rfft(pcm[12_000:36_000]))) == 440


def test_a_path_reads_like_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "concat:odd name?.mp3"  # a name that a library which opens names would take for a protocol
    path.write_bytes(MP3)
    assert np.array_equal(decode_speech(path, min_s=0.2, max_s=60), decode_speech(MP3, min_s=0.2, max_s=60))


def test_streams_that_change_in_mid_course_are_read_on() -> None:
    pcm = decode_speech(MP3 + recording("mp3", "libmp3lame", 24_000, 1), min_s=0.2, max_s=60)
    assert abs(len(pcm) / 24_000 - 2 * SECONDS) < 0.15


def test_samples_beyond_full_scale_bring_the_whole_down() -> None:
    loud = 2.5 * np.sin(2 * np.pi * 440 * np.arange(24_000) / 24_000)
    loud[5_000] = np.nan
    data = loud.astype("<f4").tobytes()
    head = b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 3, 1, 24_000, 96_000, 4, 32)
    pcm = decode_speech(head + b"data" + struct.pack("<I", len(data)) + data, min_s=0.2, max_s=60)
    assert np.isfinite(pcm).all() and np.abs(pcm).max() == 1
    assert abs(np.sqrt(np.mean(pcm**2)) - np.sqrt(0.5)) < 0.02


def test_no_bytes() -> None:
    assert "empty (0 bytes)" in refused(b"")


@pytest.mark.parametrize(
    "junk",
    [
        b"just some text, nothing to hear " * 100,
        b"%PDF-1.7\n" + b"1 0 obj << /Type /Catalog >> endobj\n" * 50,
        np.random.default_rng(0).integers(0, 256, 50_000, dtype=np.uint8).tobytes(),
        cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1].tobytes(),
        cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8))[1].tobytes(),
        MP3[:3],
        WAV[:20],
        b"\0" * 10_000,
    ],
    ids=["text", "pdf", "random", "png", "jpeg", "three bytes", "cut header", "zeros"],
)
def test_what_is_no_recording(junk: bytes) -> None:
    message = refused(junk)
    assert "not a recording" in message and "accepted: mp3, wav" in message


def test_playlists_are_never_followed(tmp_path: Path) -> None:
    target = tmp_path / "target.mp3"
    target.write_bytes(MP3)
    hls = f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n"
    concat = f"ffconcat version 1.0\nfile '{target}'\n"
    dash = f'<?xml version="1.0"?><MPD type="static"><Period><BaseURL>file://{target}</BaseURL></Period></MPD>'
    for text in (hls, concat, dash):
        assert "not a recording" in refused(text.encode())
        playlist = tmp_path / "list.m3u8"
        playlist.write_text(text)
        assert "not a recording" in refused(playlist)


def test_a_video_without_sound() -> None:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        file.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        file.mux(stream.encode(None))
    assert refused(out.getvalue()) == "the file has no audio stream (streams: video)"


@pytest.mark.parametrize("level", [0.0, 0.0005])
def test_silence(level: float) -> None:
    assert "is silent" in refused(recording("wav", "pcm_s16le", level=level))


def test_a_constant_offset_is_silence_too() -> None:
    data = np.full(24_000, 9_000, "<i2").tobytes()
    head = b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 24_000, 48_000, 2, 16)
    assert "is silent" in refused(head + b"data" + struct.pack("<I", len(data)) + data)


def test_a_quiet_voice_is_not_silence() -> None:
    assert len(decode_speech(recording("wav", "pcm_s16le", level=0.006), min_s=0.2, max_s=60))


def test_too_short_and_too_long() -> None:
    assert refused(recording("wav", "pcm_s16le", seconds=0.1)) == "the recording is 0.10 s long, at least 0.2 s are needed"
    assert refused(WAV, max_s=1.5) == "the recording is longer than 1.5 s, the longest accepted"
    assert len(decode_speech(WAV, min_s=SECONDS, max_s=SECONDS)) == SECONDS * 24_000, "both bounds are inside"


def test_an_hour_is_not_decoded_to_be_refused() -> None:
    hour = recording("mp3", "libmp3lame", 16_000) * (3_600 // SECONDS)
    tracemalloc.start()
    try:
        assert "longer than 10 s" in refused(hour, max_s=10)
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


def test_absurd_parameters() -> None:
    many = bytearray(WAV)
    struct.pack_into("<H", many, 22, 64)
    assert "64 channels, 1 to 16" in refused(bytes(many))
    slow = bytearray(WAV)
    struct.pack_into("<I", slow, 24, 100)
    assert "sample rate of 100 Hz" in refused(bytes(slow))


def test_a_recording_cut_off_gives_what_it_has() -> None:
    pcm = decode_speech(MP3[: len(MP3) // 2], min_s=0.2, max_s=60)
    assert abs(len(pcm) / 24_000 - SECONDS / 2) < 0.1
    assert "at least 1.9 s are needed" in refused(MP3[: len(MP3) // 2], min_s=1.9)


def test_damage_in_the_middle_costs_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    damaged = bytearray(MP3)
    third = len(MP3) // 3
    damaged[third : third + 4_000] = np.random.default_rng(1).integers(0, 256, 4_000, dtype=np.uint8).tobytes()
    with caplog.at_level(logging.WARNING):
        pcm = decode_speech(bytes(damaged), min_s=0.2, max_s=60)
    assert SECONDS - 0.5 < len(pcm) / 24_000 < SECONDS + 0.1
    assert "damaged packets" in caplog.text
    message = refused(bytes(damaged), min_s=2.05)
    assert message.startswith("the recording is damaged: 1.") and message.endswith("at least 2.05 s are needed")


@pytest.mark.parametrize("seed", range(40))
def test_mangled_recordings_decode_or_are_refused(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = [("mp3", "libmp3lame"), ("wav", "pcm_s16le"), ("ipod", "aac"), ("ogg", "libopus"), ("webm", "libopus"), ("flac", "flac"), ("adts", "aac")]
    data = np.frombuffer(recording(*kinds[seed % len(kinds)]), np.uint8).copy()
    places = (rng.random(int(rng.choice([1, 5, 50]))) ** rng.choice([1, 4]) * len(data)).astype(int)  # often near the head
    data[places] = rng.integers(0, 256, len(places))
    data = data[: rng.integers(len(data) // 4, len(data))]
    try:
        pcm = decode_speech(data.tobytes(), min_s=0.2, max_s=30)
    except AudioError:
        return
    assert 0.2 * 24_000 <= len(pcm) <= 30 * 24_000 and np.isfinite(pcm).all() and np.abs(pcm).max() <= 1


def test_bad_and_good_input_leave_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    open_before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else None
    path = tmp_path / "upload"
    for data in (MP3, b"junk" * 100, MP3[:500]):
        path.write_bytes(data)
        for source in (data, path):
            try:
                decode_speech(source, min_s=0.2, max_s=60)
            except AudioError:
                pass
    assert [p.name for p in tmp_path.iterdir()] == ["upload"]
    if open_before is not None:
        assert len(os.listdir("/proc/self/fd")) == open_before


def muxed(container: str, tracks: list[np.ndarray], codec: str = "pcm_s16le", rate: int = 48_000, starts: tuple[float, ...] = ()) -> bytes:
    """tracks: int16 (channels, n), an audio stream each; starts: of each, where several stand for one stream with gaps, in seconds."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        layouts = ["mono" if len(track) == 1 else "stereo" for track in tracks]
        streams: list[Any] = []
        for layout in layouts[: 1 if starts else None]:
            stream: Any = file.add_stream(codec, rate=rate)
            stream.codec_context.layout = layout
            streams.append(stream)
        for number, (track, layout) in enumerate(zip(tracks, layouts, strict=True)):
            stream = streams[0 if starts else number]
            for at in range(0, track.shape[1], 960):
                part = np.ascontiguousarray(track[:, at : at + 960].T).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(part, format="s16", layout=layout)
                frame.sample_rate, frame.pts = rate, at + round((starts[number] if starts else 0) * rate)
                file.mux(stream.encode(frame))
        for stream in streams:
            file.mux(stream.encode(None))
    return out.getvalue()


def tone(seconds: float, level: float = 0.3, rate: int = 48_000) -> np.ndarray:
    return (level * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate) * 32_767).astype(np.int16)[None]


def rms(pcm: np.ndarray) -> float:
    return float(np.sqrt(np.square(pcm, dtype=np.float64).mean()))


@pytest.mark.parametrize("other", [-1.0, -0.9])
def test_sides_that_cancel_each_other_are_heard(other: float) -> None:
    side = tone(1)
    pcm = decode_speech(muxed("wav", [np.concatenate([side, (side * other).astype(np.int16)])]), min_s=0.2, max_s=60)
    assert rms(pcm) == pytest.approx(0.3 / 2**0.5, rel=0.02)


def test_other_stereo_is_the_mean_of_both_sides() -> None:
    side = tone(1)
    pcm = decode_speech(muxed("wav", [np.concatenate([side, side // 2])]), min_s=0.2, max_s=60)
    assert rms(pcm) == pytest.approx(0.75 * 0.3 / 2**0.5, rel=0.02)


def test_the_first_track_in_which_anything_is_heard_is_taken() -> None:
    tracks = [tone(1, 0.0), tone(1.5), tone(2, 0.6)]
    pcm = decode_speech(muxed("mov", tracks), min_s=0.2, max_s=60)
    assert len(pcm) == 36_000 and rms(pcm) == pytest.approx(0.3 / 2**0.5, rel=0.02)
    assert "silent" in refused(muxed("mov", [tone(1, 0.0), tone(1, 0.0)]))


@pytest.mark.parametrize(("container", "codec"), [("webm", "libopus"), ("matroska", "pcm_s16le"), ("mp4", "aac")])
def test_a_pause_without_packets_is_silence(container: str, codec: str) -> None:
    pcm = decode_speech(muxed(container, [tone(1), tone(1)], codec, starts=(0.0, 3.0)), min_s=0.2, max_s=60)
    assert len(pcm) / 24_000 == pytest.approx(4, abs=0.1)
    assert rms(pcm[30_000:66_000]) < 0.01 and rms(pcm[74_000:90_000]) > 0.15


def test_a_clock_that_jumps_is_no_pause() -> None:
    pcm = decode_speech(muxed("matroska", [tone(1), tone(1)], starts=(0.0, 4_000.0)), min_s=0.2, max_s=60)
    assert len(pcm) / 24_000 == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(("bits", "kind"), [(16, ">i2"), (32, ">i4"), (8, "u1")])
def test_a_wav_of_big_endian_machines(bits: int, kind: str) -> None:
    level = np.sin(2 * np.pi * 440 * np.arange(24_000) / 24_000) * 0.3
    samples = ((level * 127 + 128) if bits == 8 else level * (2 ** (bits - 1) - 1)).astype(kind).tobytes()
    header = struct.pack(">HHIIHH", 1, 1, 24_000, 24_000 * bits // 8, bits // 8, bits)
    body = b"WAVEfmt " + struct.pack(">I", 16) + header + b"data" + struct.pack(">I", len(samples)) + samples
    pcm = decode_speech(b"RIFX" + struct.pack(">I", len(body)) + body, min_s=0.2, max_s=60)
    assert np.abs(pcm - level).max() < (0.02 if bits == 8 else 1e-3)


def wav(*chunks: tuple[bytes, bytes], padded: bool = True) -> bytes:
    body = b"".join(kind + struct.pack("<I", len(data)) + data + b"\0" * (padded and len(data) % 2) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


PCM16 = struct.pack("<HHIIHH", 1, 1, 24_000, 48_000, 2, 16)
ODD = [(b"LIST", b"INFOx"), (b"fmt ", PCM16), (b"cue ", b"abc"), (b"data", tone(1.0, rate=24_000).tobytes())]


@pytest.mark.parametrize("padded", [True, False])
def test_chunks_of_odd_length_with_and_without_the_byte_that_fills_them_up(padded: bool) -> None:
    pcm = decode_speech(wav(*ODD, padded=padded), min_s=0.2, max_s=60)
    assert len(pcm) == 24_000 and rms(pcm) == pytest.approx(0.3 / 2**0.5, rel=0.01)


def test_a_wav_of_endless_empty_chunks_is_given_up() -> None:
    assert "not a recording" in refused(b"RIFF" + bytes(4) + b"WAVE" + (b"abcd" + bytes(4)) * 200_000)


def test_a_voicemail_of_gsm_frames() -> None:
    """Asterisk's own kind of wav."""
    out = io.BytesIO()
    soundfile.write(out, tone(2.0, rate=8_000)[0], 8_000, format="WAV", subtype="GSM610")
    pcm = decode_speech(out.getvalue(), min_s=0.2, max_s=60)
    assert len(pcm) / 24_000 == pytest.approx(2.0, abs=0.05) and rms(pcm) == pytest.approx(0.3 / 2**0.5, rel=0.1)


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        (b"<!doctype html><html><body>403</body></html>", "an HTML"),
        (b'{"error": "no such file"}', "a JSON text"),
        (b"data:audio/wav;base64,UklGRiQAAABXQVZF", "a data URL"),
        (b"UklGRiQAAABXQVZFZm10IBAAAAABAAEA", "base64"),
    ],
)
def test_what_was_sent_in_place_of_a_recording_is_named(sent: bytes, named: str) -> None:
    assert named in refused(sent)

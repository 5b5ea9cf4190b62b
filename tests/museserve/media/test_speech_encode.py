from __future__ import annotations

import io
import struct
import wave

import av
import numpy as np
import pytest
import soundfile

from museserve.errors import RequestError
from museserve.media.decode import decode_speech
from museserve.media.speech_encode import CONTENT_TYPES, SpeechEncoder

T = np.arange(3 * 24_000) / 24_000
TONE = (0.4 * np.sin(2 * np.pi * 500 * T) * (T > 1) * (T < 2)).astype(np.float32)  # a second of sound between silences


def encoded(audio_format: str, pcm: np.ndarray = TONE, step: int = 2_400) -> tuple[list[bytes], bytes]:
    encoder = SpeechEncoder(audio_format)
    assert encoder.content_type == CONTENT_TYPES[audio_format]
    pieces = [encoder.encode(pcm[at : at + step]) for at in range(0, len(pcm), step)]
    return pieces, b"".join([*pieces, encoder.finish()])


@pytest.mark.parametrize("audio_format", ["mp3", "opus", "aac", "flac", "wav"])
def test_every_format_reads_back_as_the_same_sound(audio_format: str) -> None:
    pcm = decode_speech(encoded(audio_format)[1], min_s=1, max_s=10)
    assert abs(len(pcm) / 24_000 - 3) < 0.12  # coders without a length add a frame or two at the ends
    loud = np.flatnonzero(np.abs(pcm) > 0.1)
    assert abs(loud[0] / 24_000 - 1) < 0.1 and abs((loud[-1] - loud[0]) / 24_000 - 1) < 0.02
    middle = pcm[loud[0] + 4_000 : loud[0] + 16_000]
    assert abs(np.sqrt(np.mean(middle**2)) - 0.4 / np.sqrt(2)) < 0.02
    assert abs(np.argmax(np.abs(np.fft.rfft(middle))) * 24_000 / 12_000 - 500) < 4


@pytest.mark.parametrize("audio_format", list(CONTENT_TYPES))
def test_bytes_come_while_speech_goes_in(audio_format: str) -> None:
    pieces, whole = encoded(audio_format)
    assert sum(map(len, pieces[: len(pieces) // 2])) > len(whole) / 8
    assert sum(map(bool, pieces)) > len(pieces) * 0.7


def test_the_container_is_what_the_content_type_says() -> None:
    kinds = {}
    for audio_format in ("mp3", "opus", "aac", "flac", "wav"):
        with av.open(io.BytesIO(encoded(audio_format)[1])) as container:
            kinds[audio_format] = (container.format.name, container.streams.audio[0].codec_context.name.removesuffix("float"))
    assert kinds == {
        "mp3": ("mp3", "mp3"),
        "opus": ("ogg", "opus"),
        "aac": ("aac", "aac"),
        "flac": ("flac", "flac"),
        "wav": ("wav", "pcm_s16le"),
    }


def test_pcm_is_bare_16_bit_samples_and_full_scale_does_not_wrap() -> None:
    _, data = encoded("pcm", np.array([0.0, 0.5, 1.0, 1.7, -1.0, -3.0, np.nan], np.float32))
    assert np.frombuffer(data, "<i2").tolist() == [0, 16_384, 32_767, 32_767, -32_767, -32_767, 0]


SAMPLES = np.arange(-20_000, 20_001, 13, dtype="<i2")


def whole(audio_format: str) -> tuple[bytes, bytes]:
    """As it is streamed, and with its length."""
    encoder = SpeechEncoder(audio_format)
    streamed = encoder.encode((SAMPLES / 32_767).astype(np.float32)) + encoder.finish()
    return streamed, encoder.with_length(streamed)


def test_a_wav_has_its_length_where_it_is_known() -> None:
    streamed, data = whole("wav")
    assert struct.unpack_from("<I", streamed, 4) == struct.unpack_from("<I", streamed, 40) == (0xFFFF_FFFF,)
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()) == (1, 2, 24_000, len(SAMPLES))
        assert file.readframes(len(SAMPLES)) == SAMPLES.tobytes()
    assert struct.unpack_from("<I", data, 4) == (len(data) - 8,)


@pytest.mark.parametrize("audio_format", ["wav", "flac"])
def test_readers_know_the_length(audio_format: str) -> None:
    data = whole(audio_format)[1]
    read, rate = soundfile.read(io.BytesIO(data), dtype="int16")
    assert rate == 24_000 and np.array_equal(read, SAMPLES)
    assert soundfile.info(io.BytesIO(data)).frames == len(SAMPLES)
    with av.open(io.BytesIO(data)) as container:
        (stream,) = container.streams.audio
        assert stream.duration is not None and stream.time_base is not None
        assert float(stream.duration * stream.time_base) == pytest.approx(len(SAMPLES) / 24_000, abs=1e-4)


@pytest.mark.parametrize("audio_format", ["mp3", "opus", "aac", "pcm"])
def test_what_has_no_place_for_a_length_stays_as_it_is(audio_format: str) -> None:
    streamed, data = whole(audio_format)
    assert streamed == data


@pytest.mark.parametrize("audio_format", list(CONTENT_TYPES))
def test_no_speech_at_all_still_ends(audio_format: str) -> None:
    encoder = SpeechEncoder(audio_format)
    assert encoder.encode(np.zeros(0, np.float32)) + encoder.finish() is not None
    assert encoder.finish() == b""
    with pytest.raises(ValueError, match="after finish"):
        encoder.encode(TONE)


def test_bit_rate_is_kept_within_what_the_codec_can_do() -> None:
    sizes = {}
    for rate in (32_000, 96_000, 320_000):
        encoder = SpeechEncoder("mp3", rate)
        noise = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
        sizes[rate] = len(encoder.encode(noise) + encoder.finish())
    assert 7_000 < sizes[32_000] < 9_500 and 23_000 < sizes[96_000] < 26_000 and 39_000 < sizes[320_000] < 43_000


def test_an_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(RequestError, match="'ogg'; accepted: mp3, opus, aac, flac, wav, pcm"):
        SpeechEncoder("ogg")

"""One utterance as H.264 + AAC in fragments of MP4 that join without a gap.

Everything rests on the segment: 8 frames are exactly 15 AAC frames. A stream begins with a key frame (IDR), so that it can follow any other,
whichever encoder made it; after that there is one every `KEY_FRAMES`, for whoever seeks, and one for a viewer who has run dry. Key frames are most
of what a talking face costs: with one in every segment it would be twice as much. All pictures have one quantiser, left to no rate control, but for
key frames: what they show differs from the picture before by their error alone, so it is made smaller.

Of the AAC encoder's delay nothing is left in the stream: its input runs 2,048 samples ahead of the pictures, and its priming packet is
dropped. That packet holds half of the overlap of the first 1,024 samples, which would come out aliased; they are therefore silent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

import av
import numpy as np
from av.video.frame import PictureType
from av.video.stream import VideoStream

from configs.models import MediaConfig
from museserve.errors import RenderError
from museserve.media.codecs import codecs_of
from museserve.media.fragments import ALONE, DEPENDENT, ByteSink, Run, length_prefixed, mux_fragment, open_init
from museserve.media.resample import Doubler
from museserve.messages import ByteArray, FloatArray
from museserve.timebase import (
    AAC_FRAME,
    FPS,
    KEY_FRAMES,
    OUTPUT_RATE,
    OUTPUT_SAMPLES_PER_FRAME,
    SEGMENT_FRAMES,
    SPEECH_RATE,
    VIDEO_TIMESCALE,
    whole_segments,
)

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext

LEAD_FRAMES = 2  # AAC frames the encoder wants beyond the one it gives out
SILENT_SAMPLES = AAC_FRAME  # at the start of an utterance, at 48 kHz: 21 ms
FADE_SAMPLES = 240  # after them: 5 ms
FRAME_TICKS = VIDEO_TIMESCALE // FPS
WARM_FRAMES = 2 * SEGMENT_FRAMES  # whose sound the AAC encoder hears before the first frame that it gives out

# Pictures are sRGB turned to YUV with the BT.601 matrix in limited range. Players take the tags at their word.
COLOR_TAGS = {"colorspace": 6, "color_range": 1, "color_primaries": 1, "color_trc": 13}

KEY_FINER = 3  # steps of the quantiser; 3 steps are a factor of 1.4
STEADY = "qcomp=1:ipratio=1.4"
# Coarse pictures show their blocks on skin: their borders are smoothed, and smooth blocks made a little finer. Fine ones gain nothing from that, at a
# tenth of the encoder's time each.
COARSE = 23  # quantiser from which on
FINE_PARAMS, COARSE_PARAMS = "aq-mode=0:no-deblock=1", "aq-mode=1:aq-strength=0.5:no-deblock=0:deblock=-1,-1"
# A quantiser that is the same for every block is told as such (`qp`): the same pictures and bytes as by `crf`, which first estimates what a picture
# would cost on one of half the size, an eighth of the time. Blocks of different quantisers need that one, which is told of the first key frame.
# Headers are the same for every quantiser, so that pictures of a lower rendition can follow those of the idle loop.
SAME_HEADERS = "stitchable=1"
# The fastest preset has no 4x4 prediction in key frames, no arithmetic coding and whole-pixel motion alone, and no option gives them back: for a head
# that sways by parts of a pixel that is twice the bytes. So "ultrafast" is the next preset without all else that costs time.
RENDITION_STEPS = 5  # of the quantiser, from a rendition to the next lower one
COARSEST = 40
WITHOUT = "subme=1:weightp=0:partitions=none"


class FragmentEncoder:
    """Pictures and speech of one utterance in, fragments out. Use from any thread, one call at a time; then `close`.

    `push_audio` as speech arrives, `finish_audio` once its length is known, `encode` for each piece of at most `frames_ready` frames.

    Args:
        first_frame: the first that is given out, a multiple of `SEGMENT_FRAMES`. Speech is pushed from the utterance's
            beginning all the same: some of what lies before is encoded, so that the sound joins that of the frames
            before.
        key_frames: from one key frame to the next, a multiple of `SEGMENT_FRAMES`.

    Attributes:
        init_segment: ftyp + moov, the same bytes for every instance of the same size and config.
        codecs: what Media Source Extensions want to know, e.g. "avc1.4d401e, mp4a.40.2".
        frames_encoded: number of the next frame: those given out so far, and those before `first_frame`.
    """

    def __init__(self, width: int, height: int, config: MediaConfig, first_frame: int = 0, key_frames: int = KEY_FRAMES) -> None:
        if width < 16 or height < 16 or width % 2 or height % 2:
            raise ValueError(f"picture sides must be even and at least 16, got {width}x{height}")
        if first_frame < 0 or first_frame % SEGMENT_FRAMES:
            raise ValueError(f"a stream begins with a whole segment of {SEGMENT_FRAMES} frames, got first_frame={first_frame}")
        self.width, self.height = width, height
        sink = ByteSink()
        self._template = open_init(sink)
        self._video = self._template.add_stream("libx264", rate=FPS)
        set_up_video(self._video.codec_context, width, height, config, key_frames)
        self._key_at, self._key_frames = first_frame, key_frames  # the next key frame, at the latest
        self._audio = _add_audio(self._template, config)
        self._template.start_encoding()
        self.init_segment = sink.take()
        self.codecs = codecs_of(self.init_segment)
        self.frames_encoded = first_frame
        self._fragments = first_frame  # numbers rise through streams that are joined; no fragment has less than a frame
        self._doubler = Doubler()
        self._fifo = av.AudioFifo()  # samples at 48 kHz on their way to the AAC encoder
        # Samples at 48 kHz that no encoder hears, whole AAC frames.
        self._skipped = max(0, first_frame - WARM_FRAMES) * OUTPUT_SAMPLES_PER_FRAME
        self._heard = 0  # samples at 24 kHz
        self._aac_sent = first_frame * OUTPUT_SAMPLES_PER_FRAME // AAC_FRAME  # AAC frames given out, or before first_frame
        self._packets: deque[Packet[AudioStream]] = deque()
        self._total: int | None = None

    def push_audio(self, pcm: FloatArray) -> None:
        """Speech in order: float32 (n,) at 24 kHz. Sample n of the utterance is heard at output sample 2n."""
        if self._total is not None:
            raise ValueError("speech came after finish_audio")
        unheard = max(0, self._skipped // 2 - self._heard)
        self._append(self._doubler.push(pcm[unheard:]))
        self._heard += len(pcm)

    def finish_audio(self, total_frames: int) -> None:
        """No more speech. The utterance is `total_frames` long, rounded up to whole segments and filled with silence.

        Raises:
            ValueError: the speech is longer than that.
        """
        if self._total is not None:
            raise ValueError("finish_audio was already called")
        total = whole_segments(total_frames)
        missing = total * OUTPUT_SAMPLES_PER_FRAME - max(2 * self._heard, self._skipped)
        if total * OUTPUT_SAMPLES_PER_FRAME < 2 * self._heard:
            raise ValueError(f"{total_frames} frames are too few for {self._heard / SPEECH_RATE:.3f} s of speech")
        self._total = total
        if missing < 0:
            return  # all of it lies before what is skipped
        self._append(self._doubler.finish())
        self._append(np.zeros(missing + LEAD_FRAMES * AAC_FRAME, np.float32))

    def frames_ready(self) -> int:
        """How many frames can be encoded now, that is, for how many there is enough speech. 0 when all are done."""
        packets = max((self._skipped + self._fifo.samples_written) // AAC_FRAME - LEAD_FRAMES, 0)
        # the most frames whose AAC frames (rounded down to whole ones) are all there
        frames = ((packets + 1) * AAC_FRAME - 1) // OUTPUT_SAMPLES_PER_FRAME
        if self._total is not None:
            frames = min(frames, self._total)
        return max(frames - self.frames_encoded, 0)

    def encode(self, frames: Sequence[ByteArray] | ByteArray, key: bool = False) -> bytes:
        """The next frames as one fragment: moof + mdat with n pictures and the AAC frames that end with them.

        Args:
            frames: I420 uint8 (n, h * 3 // 2, w), C-contiguous, 1 <= n <= `frames_ready()`, all in one segment.
            key: begin with a key frame even where none is due.
        Raises:
            ValueError: not so.
            RenderError: the encoder failed.
        """
        n, first = len(frames), self.frames_encoded
        if not 1 <= n <= SEGMENT_FRAMES - first % SEGMENT_FRAMES:
            raise ValueError(f"a fragment of {n} frames at frame {first} is not 1..{SEGMENT_FRAMES} frames inside one segment")
        if n > self.frames_ready():
            raise ValueError(f"{n} frames were given, but there is speech for {self.frames_ready()}")
        for i, frame in enumerate(frames):
            if frame.shape != (self.height * 3 // 2, self.width) or frame.dtype != np.uint8:
                raise ValueError(f"frame {first + i} is {frame.dtype} {frame.shape}, expected I420 uint8 ({self.height * 3 // 2}, {self.width})")
        try:
            key |= self.key_next
            pictures = [packet for i, frame in enumerate(frames) for packet in self._encode_picture(frame, first + i, key and i == 0)]
            audio = self._encode_audio((first + n) * OUTPUT_SAMPLES_PER_FRAME // AAC_FRAME)
        except av.FFmpegError as error:
            raise RenderError(f"encoding frames {first}..{first + n - 1} failed: {error}") from error
        if [picture.is_keyframe for picture in pictures] != [key, *[False] * (n - 1)]:
            raise RenderError(f"the encoder gave {len(pictures)} pictures for frames {first}..{first + n - 1}, or a key frame where none belongs")
        runs = [
            Run(first * FRAME_TICKS, FRAME_TICKS, [length_prefixed(bytes(picture)) for picture in pictures], DEPENDENT, ALONE if key else DEPENDENT),
            Run((self._aac_sent - len(audio)) * AAC_FRAME, AAC_FRAME, [bytes(packet) for packet in audio], ALONE, ALONE),
        ]
        data = mux_fragment(self._fragments, runs)
        if key:
            self._key_at = first + self._key_frames
        self.frames_encoded += n
        self._fragments += 1
        return data

    @property
    def key_next(self) -> bool:
        """Whether the next frame is a key frame in any case."""
        return self.frames_encoded == self._key_at

    def close(self) -> None:
        """Free the encoders. Nothing is flushed: what was not asked for is not part of the stream."""
        self._packets.clear()
        self._template.close()

    def __enter__(self) -> FragmentEncoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _encode_picture(self, frame: ByteArray, number: int, key: bool) -> list[Packet[VideoStream]]:
        picture = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(frame), format="yuv420p")  # a view: nothing is copied
        picture.pts = number
        picture.time_base = Fraction(1, FPS)
        if key:
            picture.pict_type = PictureType.I
        return list(self._video.encode(picture))

    def _encode_audio(self, end: int) -> list[Packet[AudioStream]]:
        """AAC frames up to number `end`, not included. Encodes no further than it must: the first picture is waiting."""
        wanted = (end + LEAD_FRAMES) * AAC_FRAME - self._skipped - self._fifo.samples_read
        if wanted > 0:
            samples = self._fifo.read(wanted)  # it has them: `frames_ready` was asked first. PyAV cuts them into AAC's frames
            assert samples is not None and samples.pts is not None
            samples.pts += self._skipped
            self._packets.extend(p for p in self._audio.encode(samples) if p.pts is not None and p.pts >= self._aac_sent * AAC_FRAME)
        packets = [self._packets.popleft() for _ in range(end - self._aac_sent)]
        self._aac_sent = end
        return packets

    def _append(self, pcm: FloatArray) -> None:
        if not len(pcm):
            return
        written, ramp_end = self._fifo.samples_written, SILENT_SAMPLES + FADE_SAMPLES
        if written < ramp_end and not self._skipped:
            at = np.arange(written, min(written + len(pcm), ramp_end))
            gain = np.clip((at - SILENT_SAMPLES) / FADE_SAMPLES, 0.0, 1.0).astype(np.float32)
            pcm[: len(at)] *= gain
        samples = av.AudioFrame.from_ndarray(pcm[None], format="fltp", layout="mono")
        samples.sample_rate, samples.pts, samples.time_base = OUTPUT_RATE, written, Fraction(1, OUTPUT_RATE)
        self._fifo.write(samples)


def in_rendition(config: MediaConfig, crf: int | None, rendition: int) -> MediaConfig:
    """The settings of speech on an idle loop of this quantiser (None: the configuration's), in a rendition: 0 the full one, higher ones lower."""
    full = config.crf if crf is None else crf
    return config.model_copy(update={"crf": max(full, min(full + RENDITION_STEPS * rendition, COARSEST))})


@lru_cache(maxsize=16)
def init_segment(width: int, height: int, config: MediaConfig) -> bytes:
    """The init segment that every `FragmentEncoder` of this size and config has."""
    with FragmentEncoder(width, height, config) as encoder:
        return encoder.init_segment


def set_up_video(codec: VideoCodecContext, width: int, height: int, config: MediaConfig, key_frames: int = KEY_FRAMES) -> None:
    """How pictures are encoded, in a stream and wherever the same bits are wanted without one."""
    codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
    codec.time_base, codec.framerate = Fraction(1, FPS), Fraction(FPS)
    codec.thread_count = config.threads
    for name, value in COLOR_TAGS.items():
        setattr(codec, name, value)
    # By crf the ratio is that to the pictures before: the first one has none.
    if config.crf >= COARSE:
        quantiser, effort = "crf", f"{COARSE_PARAMS}:zones=0,0,q={config.crf - KEY_FINER}"
    else:
        quantiser, effort = "qp", FINE_PARAMS
    preset, params = config.preset, f"{STEADY}:{effort}:{SAME_HEADERS}"
    if preset == "ultrafast":
        preset, params = "superfast", f"{params}:{WITHOUT}"
    codec.options = {
        "preset": preset,
        "x264-params": params,
        "tune": "zerolatency",  # a packet comes back from the call that its frame went into
        "profile": "main",
        quantiser: str(config.crf),
        "g": str(key_frames),
        "keyint_min": str(SEGMENT_FRAMES),
        "forced-idr": "1",
        "sc_threshold": "0",
        "bf": "0",
    }


def _add_audio(container: av.container.OutputContainer, config: MediaConfig) -> AudioStream:
    stream = container.add_stream("aac", rate=OUTPUT_RATE)
    stream.codec_context.layout = "mono"
    stream.codec_context.format = "fltp"
    stream.codec_context.bit_rate = config.audio_bit_rate_bps
    # Half the time of the default search, and at this rate closer to the speech: 28 dB above its error instead of 24.
    # Noise shaping in time and noise in place of bands take a fourteenth more of the time, and lose half a decibel of that.
    stream.options = {"aac_coder": "fast", "aac_tns": "0", "aac_pns": "0"}
    return stream

"""The numbers that every part shares. Times travel as integer frame or sample counts; seconds are for people.

A segment is 8 frames = 0.32 s = 15,360 samples at 48 kHz = exactly 15 AAC frames of 1,024: the only length up to half a
second at which pictures and AAC frames both end together, so fragments join with no gap and no overlap.
"""

from __future__ import annotations

FPS = 25
SEGMENT_FRAMES = 8
SEGMENT_S = SEGMENT_FRAMES / FPS
KEY_FRAMES = 8 * SEGMENT_FRAMES  # from a key frame of speech to the next, 2.56 s

SPEECH_RATE = 24_000  # float32 mono inside the graph
WHISPER_RATE = 16_000
OUTPUT_RATE = 48_000  # what is encoded
AAC_FRAME = 1_024

SPEECH_SAMPLES_PER_FRAME = SPEECH_RATE // FPS  # 960
OUTPUT_SAMPLES_PER_FRAME = OUTPUT_RATE // FPS  # 1,920
SEGMENT_SAMPLES = SEGMENT_FRAMES * OUTPUT_SAMPLES_PER_FRAME  # 15,360

VIDEO_TIMESCALE = 12_800  # 512 ticks a frame, 4,096 a segment

# An avatar's idle loop, in frames: a whole number of segments, 10.24 s.
IDLE_FRAMES = 32 * SEGMENT_FRAMES


def frames_for(samples: int) -> int:
    """Frames that cover `samples` of speech at `SPEECH_RATE`, rounded up."""
    return -(-samples // SPEECH_SAMPLES_PER_FRAME)


def whole_segments(frames: int) -> int:
    """`frames` rounded up to a whole number of segments, in frames."""
    return -(-frames // SEGMENT_FRAMES) * SEGMENT_FRAMES

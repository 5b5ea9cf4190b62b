"""On which frame of the idle loop each frame of an utterance is drawn.

Speech may join the loop at any of its frames, but the loop goes on afterwards from memory, in segments. So in the utterance's first segment the
loop is played a little faster or slower, up to the grid of segments: by at most 4 frames more or 3 fewer, which a face that begins to speak hides.
"""

from __future__ import annotations

from museserve.timebase import SEGMENT_FRAMES


def grid_of(phase: int, loop_frames: int) -> int:
    """The multiple of a segment for which frame f, from the second segment on, shows idle frame (grid + f) modulo the loop."""
    return (phase + _shift(phase)) % loop_frames


def idle_frame(phase: int, frame: int, loop_frames: int) -> int:
    """The idle frame under frame number `frame` of an utterance that began on idle frame `phase`. loop_frames: a whole number of segments."""
    shift = _shift(phase)
    gained = shift if frame >= SEGMENT_FRAMES else (frame * shift + SEGMENT_FRAMES // 2) // SEGMENT_FRAMES
    return (phase + frame + gained) % loop_frames


def _shift(phase: int) -> int:
    """Frames to the nearest boundary: -3 to 4."""
    past = phase % SEGMENT_FRAMES
    return -past if past < SEGMENT_FRAMES // 2 else SEGMENT_FRAMES - past

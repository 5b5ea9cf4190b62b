"""The animator's conditioning row: one float32 per control, 0 = the background's own face.

Shapes are in millimetres of the face (the `rig`), so a row means the same on every avatar. Most controls run 0..1; `NOD` is in
degrees (positive = chin down), `TURN` too (positive = to the picture's right), `RISE` in mm, `GAZE_X` / `GAZE_Y` in mm of iris shift.
"""

from __future__ import annotations

CONTROLS = (
    "jaw",  # 1 = chin down by JAW_MM on a usual face
    "lower_drop",  # lower lip alone, LOWER_DROP_MM
    "upper_raise",  # upper lip alone, UPPER_RAISE_MM
    "wide",  # corners out
    "round",  # corners in, lips forward: o, u, w
    "press",  # lips pressed thin
    "ftuck",  # lower lip to the upper teeth: f, v
    "smile",  # on top of the avatar's resting smile; negative takes it away
    "lip_close",  # undoes what `jaw` opens, with the chin staying low: p, b, m
    "seal",  # closes a mouth that the photograph shows open
    "tongue",  # tip up: l, n, t, d
    "brow_up",  # 3 mm
    "nod",  # degrees
    "rise",  # mm
    "gaze_x",  # mm
    "gaze_y",  # mm
    "turn",  # degrees
    "blink",  # lids down
    "awake",  # the background's own blinks are held back
)
N_CONTROLS = len(CONTROLS)
JAW_MM, LOWER_DROP_MM, UPPER_RAISE_MM = 15.0, 4.5, 3.2

JAW, LOWER_DROP, UPPER_RAISE, WIDE, ROUND, PRESS, FTUCK, SMILE, LIP_CLOSE, SEAL, TONGUE, BROW_UP, NOD, RISE, GAZE_X, GAZE_Y = range(16)
TURN, BLINK, AWAKE = range(16, N_CONTROLS)

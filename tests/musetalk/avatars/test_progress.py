"""The steps of a long piece of work, told as lines."""

from __future__ import annotations

from musetalk.avatars.progress import Steps, in_lines


def test_each_step_is_told_as_it_begins_and_then_now_and_again() -> None:
    lines: list[str] = []
    steps = Steps(in_lines(lines.append, "preparing", every_s=3600))
    with steps("rig", 0.0, 0.2) as tick:
        tick(0.5)
    with steps("encode the face", 0.2, 1.0) as tick:
        tick(0.25)
    assert lines == ["preparing: 0 %, rig", "preparing: 20 %, encode the face"]
    with Steps(in_lines(lines.append, "preparing", every_s=0))("encode the face", 0.2, 1.0) as tick:
        tick(0.25)
    assert lines[2:] == ["preparing: 20 %, encode the face", "preparing: 40 %, encode the face"]

"""What the launcher of one machine tells while the graph starts."""

from __future__ import annotations

import json
import time
from pathlib import Path

from museserve.app.local import preparation_told
from musetalk.avatars.progress import PREPARING_SHIPPED

LINE = f"{PREPARING_SHIPPED}: 45 %, interviewer_woman: encode the face"


def test_what_replicas_log_of_their_preparation_is_told_once_and_whole(tmp_path: Path) -> None:
    told: list[str] = []
    text, structured = tmp_path / "replica_LipSync_1.log", tmp_path / "replica_FacePrep_1.log"
    with preparation_told(tmp_path, told.append):
        with text.open("a") as file:
            file.write(f"INFO 2026-01-01 00:00:00,000 museserve_LipSync 1 -- something else\nINFO 2026-01-01 -- {LINE[:40]}")
            file.flush()
            time.sleep(1.2)  # it is looked for meanwhile
            assert told == []
            file.write(f"{LINE[40:]} [request_id=1]\n")
        deadline = time.monotonic() + 20
        while told != [LINE] and time.monotonic() < deadline:
            time.sleep(0.05)
        assert told == [LINE]
        structured.write_text(json.dumps({"levelname": "INFO", "message": LINE.replace("45", "50"), "component": "x"}) + "\n")
    assert told == [LINE, LINE.replace("45", "50")]

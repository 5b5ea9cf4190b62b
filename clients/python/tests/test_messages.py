"""The client knows every message of the service, field for field."""

from __future__ import annotations

import dataclasses
import json

import pytest
from museserve_client import MuseserveError
from museserve_client import messages as m

protocol = pytest.importorskip("deployments.ingress.sessions.protocol", reason="NO MUSESERVE in this environment to compare with")


def test_every_message_and_field_of_the_service_is_known() -> None:
    models = {model.model_fields["type"].default: model for model in protocol.SERVER_MODELS}
    assert set(models) == set(m.TYPES)
    for kind, model in models.items():
        assert {field.name for field in dataclasses.fields(m.TYPES[kind])} == set(model.model_fields) - {"type"}, kind


def test_what_the_service_writes_is_read() -> None:
    part = protocol.Part(seq=4, id="a", n=1, first_frame=8, phase=16, chars=(0, 24), first_word=2, first_cue=1)
    assert m.parse(part.model_dump_json(exclude_none=True)) == m.Part("a", 1, 8, 16, 2, 1, (0, 24), None, 4)
    word, cue = protocol.WordTime(text="Hi", start_ms=0, end_ms=90), protocol.CueLines(start_ms=0, end_ms=90, lines=("Hi",))
    words = protocol.Words(seq=5, id="a", n=1, first_word=0, words=(word,), first_cue=0, cues=(cue,))
    assert m.parse(words.model_dump_json()) == m.Words("a", 1, 0, (m.Word("Hi", 0, 90),), 0, (m.Cue(0, 90, ("Hi",)),), False, 5)


def test_fragments_are_read_as_they_are_packed() -> None:
    flags = protocol.FrameFlag.STARTS | protocol.FrameFlag.KEY
    packed = protocol.FrameHeader(7, 2, 16, 8, 40, flags).pack() + b"moof"
    assert m.parse_fragment(packed) == m.Fragment(7, 2, 16, 8, 40, True, False, False, True, b"moof")
    with pytest.raises(MuseserveError, match="another version"):
        m.parse_fragment(b"\x02" + packed[1:])


def test_a_newer_service_may_say_more_and_nonsense_is_told() -> None:
    assert m.parse(json.dumps({"type": "pong", "seq": 0, "moon": "full"})) == m.Pong()
    assert m.parse('{"type": "weather", "seq": 3}') is None
    for nonsense in ("[]", "{", '{"type":"queued","id":"a"}'):
        with pytest.raises(MuseserveError, match="no session says"):
            m.parse(nonsense)

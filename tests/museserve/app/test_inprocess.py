"""The pipeline on the real animator and the offline voices, in this process."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from configs.models import load_config
from museserve.app.inprocess import LocalPipeline
from museserve.media import idle_loop
from museserve.messages import Fragment, SpeechRequest, VideoRequest
from museserve.timebase import OUTPUT_SAMPLES_PER_FRAME, SPEECH_RATE
from tests import decoded

ENGLISH = "I would like you to walk me through a system that you designed, from the first sketch to production."


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> LocalPipeline:
    over = {"avatars": {"uri": str(tmp_path_factory.mktemp("store"))}, "lipsync": {"engine": "animator"}, "speech": {"engine": "offline"}}
    # So fine that what is seen is what was drawn: two encodings of one picture, with and without those before it, are not equal.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(idle_loop, "MOST_BYTES", 100.0)
        return LocalPipeline(load_config("local", {**over, "mux": {"media": {"crf": 1}}}))


CODEC = 0.25  # grey levels that two encodings of a picture are apart, in the mean; two phases of the face are 1.0 apart


def joined(whole: list[Fragment], rest: list[Fragment]) -> bytes:
    """What a viewer has who got `rest` after the whole segments before it."""
    init = rest[0].data[: rest[0].data.index(b"moof") - 4]
    assert whole[0].data.startswith(init)
    kept = [fragment.data for fragment in whole if fragment.first_frame < rest[0].first_frame]
    return b"".join([*kept, rest[0].data[len(init) :], *(fragment.data for fragment in rest[1:])])


@pytest.mark.parametrize("voice", ["hibari", "joe"])
async def test_an_utterance_goes_on_from_any_segment_in_the_same_voice_and_face(local: LocalPipeline, voice: str) -> None:
    """The pictures are the same; so is the sound before the encoder, which afterwards errs elsewhere than it would have done."""
    request = VideoRequest("u", "interviewer_woman", SpeechRequest(ENGLISH, voice, language="en"), paced=False, phase=3)
    whole = await local.fragments(request)
    data = b"".join(fragment.data for fragment in whole)
    pictures, sound = decoded.pictures(data), decoded.sound(data)
    for first_frame in (8, 40, len(pictures) - 8):
        rest = await local.fragments(replace(request, first_frame=first_frame))
        again = joined(whole, rest)
        apart = np.abs(decoded.pictures(again).astype(np.int16) - pictures)
        # How loud the voice is was measured over a little more or less of it: a mouth may open by a fraction of a pixel more.
        assert not apart[:first_frame].any() and apart.mean(axis=(1, 2)).max() < CODEC
        heard, join = decoded.sound(again), first_frame * OUTPUT_SAMPLES_PER_FRAME
        assert not (heard - sound)[: join - 1_024].any()
        error = np.sqrt(np.mean((heard - sound)[join - 1_024 :] ** 2) / np.mean(sound**2))
        assert error < 0.06, "25 dB below the voice, which is what the codec does to it anyway"
        assert [w for f in rest for w in f.words] == [w for f in whole for w in f.words]


async def test_espeak_goes_on_with_the_same_words_at_the_same_times(local: LocalPipeline) -> None:
    """Within some milliseconds: it varies its pitch and pace a little from one call to the next."""
    text = "지금까지 진행한 프로젝트를 설명해 주세요."
    request = VideoRequest("u", "interviewer_woman", SpeechRequest(text, "espeak-ko-f", language="ko"), paced=False)
    whole = await local.fragments(request)
    rest = await local.fragments(replace(request, first_frame=32))
    for again, word in zip((w for f in rest for w in f.words), (w for f in whole for w in f.words), strict=True):
        assert again.text == word.text and abs(again.start - word.start) < SPEECH_RATE / 100 and abs(again.end - word.end) < SPEECH_RATE / 100
    data = b"".join(fragment.data for fragment in whole)
    apart = np.abs(decoded.pictures(joined(whole, rest)).astype(np.int16) - decoded.pictures(data))
    assert apart.mean(axis=(1, 2)).max() < CODEC
    sound = decoded.sound(joined(whole, rest))
    steps = np.abs(np.diff(sound))
    join = 32 * OUTPUT_SAMPLES_PER_FRAME
    assert steps[join - 2_048 : join + 2_048].max() <= steps.max() * 1.01, "no click that is sharper than the voice itself"

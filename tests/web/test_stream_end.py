"""The last bytes of a stream, which tell its end, do a player no harm."""

from __future__ import annotations

import asyncio
import base64
import math

import pytest
from playwright.sync_api import Browser

from configs.models import MuxConfig
from museserve.media.encode import FragmentEncoder
from museserve.media.fragments import STREAM_END
from museserve.pipeline.engines import LipSync
from museserve.pipeline.utterance import UtterancePipeline, UtterancePlan
from museserve.runtime.deadline_executor import DeadlineExecutor
from tests import decoded
from tests.fakes import INFO, FakeLips, FakeSpeech, background
from tests.museserve.media.isobmff import boxes

APPEND = """async ([codecs, parts]) => {
  const source = new (self.ManagedMediaSource ?? MediaSource)(), video = document.createElement("video");
  video.disableRemotePlayback = true;
  video.src = URL.createObjectURL(source);
  await new Promise((done) => source.addEventListener("sourceopen", done, { once: true }));
  const buffer = source.addSourceBuffer(`video/mp4; codecs="${codecs}"`);
  for (const part of parts) {
    const bytes = Uint8Array.from(atob(part), (letter) => letter.charCodeAt(0));
    await new Promise((done, fail) => {
      buffer.addEventListener("updateend", done, { once: true });
      buffer.addEventListener("error", () => fail(new Error("append failed")), { once: true });
      buffer.appendBuffer(bytes);
    });
  }
  const { length } = video.buffered, buffered = length ? video.buffered.end(0) : 0;
  if (source.readyState === "open") source.endOfStream();
  return { length, buffered, duration: source.duration, error: video.error?.message ?? null };
}"""


@pytest.fixture(scope="module")
def film() -> bytes:

    async def made() -> bytes:
        ground = background(64)
        lips, pool = FakeLips(ground.box), DeadlineExecutor([math.inf])
        plan = UtterancePlan(paced=False)
        utterance = UtterancePipeline(ground, FakeSpeech(1.0).stream(), LipSync(INFO, lips.listen, lips.render), MuxConfig(), pool, plan)
        return b"".join([fragment.data async for fragment in utterance.fragments()])

    return asyncio.run(made())


def test_it_is_a_box_that_the_standard_has_there(film: bytes) -> None:
    assert [kind for kind, *_ in boxes(film + STREAM_END)][-3:] == ["moof", "mdat", "mfra"]
    ((kind, _, content, end),) = boxes(STREAM_END, 8)
    assert (kind, end - content) == ("mfro", 8) and STREAM_END[-4:] == len(STREAM_END).to_bytes(4, "big")
    assert decoded.numbers(decoded.frames(film + STREAM_END)) == decoded.numbers(decoded.frames(film))


@pytest.mark.browser
def test_media_source_takes_it_and_more_after_it(film: bytes, browser: Browser) -> None:
    with FragmentEncoder(64, 64, MuxConfig().media) as encoder:
        codecs = encoder.codecs
    page = browser.new_page()
    cut = film.rindex(b"moof") - 4
    for parts in ([film + STREAM_END], [film[:cut], film[cut:], STREAM_END], [film[:cut] + STREAM_END, film[cut:]]):
        seen = page.evaluate(APPEND, [codecs, [base64.b64encode(part).decode() for part in parts]])
        assert seen["error"] is None and seen["length"] == 1
        assert seen["buffered"] == pytest.approx(1.28, abs=0.05) and seen["duration"] == pytest.approx(1.28, abs=0.05)
    page.close()

"""Films cases with the service's own pipeline, in this process, and keeps what the measures compare with: speech, phonemes, rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from benchmarks.lips.cases import PHOTO, SILENCE_S, Case
from configs.models import AppConfig, load_config
from museserve.app.inprocess import LocalPipeline, render_to_file
from museserve.media.compositing import paste
from museserve.media.decode import decode_speech
from museserve.media.encode import FragmentEncoder
from museserve.media.mp4 import to_mp4
from museserve.media.speech_encode import SpeechEncoder
from museserve.messages import ByteArray, Conditioning, FloatArray, Phoneme, SpeechChunk, SpeechRequest, SpeechWindow, VideoRequest
from museserve.speech.synthesizer import Synthesizer
from museserve.timebase import SEGMENT_FRAMES, SPEECH_RATE
from musetalk.animator.render import idle_frame, render_crop
from musetalk.animator.rig import Rig
from musetalk.avatars.builtin import resolve
from musetalk.avatars.from_portrait import prepare_portrait
from musetalk.speech_cues.drive import listen

ENGINE = "animator"
PHOTOGRAPH = Path(__file__).parents[2] / "tests" / "data" / "astronaut.jpg"


@dataclass(frozen=True)
class Take:
    """A finished film and what it was made from. pcm: the whole speech at `SPEECH_RATE`; phonemes: None when driven by sound alone."""

    path: Path
    n_frames: int
    pcm: FloatArray
    phonemes: tuple[Phoneme, ...] | None

    @property
    def speech(self) -> SpeechWindow:
        """All of it, as one stretch."""
        return SpeechWindow(0, self.pcm, 0, self.n_frames, self.phonemes, final=True)


class Recorder:
    """A synthesizer that remembers what it said, and is silent for a while after the last word."""

    def __init__(self, synthesizer: Synthesizer) -> None:
        self._synthesizer = synthesizer
        self.chunks: list[SpeechChunk] = []

    async def stream(self, request: SpeechRequest) -> AsyncIterator[SpeechChunk]:
        self.chunks = []
        async for chunk in self._synthesizer.stream(request):
            heard = with_silence(chunk) if chunk.final else chunk
            self.chunks.append(heard)
            yield heard

    @property
    def pcm(self) -> FloatArray:
        return np.concatenate([chunk.pcm for chunk in self.chunks])

    @property
    def phonemes(self) -> tuple[Phoneme, ...]:
        return tuple(phoneme for chunk in self.chunks for phoneme in chunk.phonemes or ())


def with_silence(chunk: SpeechChunk) -> SpeechChunk:
    rest = np.zeros(round(SILENCE_S * SPEECH_RATE), np.float32)
    end = chunk.start + len(chunk.pcm)
    phonemes = None if chunk.phonemes is None else (*chunk.phonemes, Phoneme("", end, end + len(rest)))
    return replace(chunk, pcm=np.concatenate([chunk.pcm, rest]), phonemes=phonemes)


class FilmSet:
    """A pipeline with a store of its own under `folder`; films land there too."""

    def __init__(self, folder: Path) -> None:
        overrides = {"avatars": {"uri": str(folder / "avatars")}, "speech": {"engine": "offline", "max_text_chars": 20_000}}
        self.config: AppConfig = load_config("local", overrides)
        self.local = LocalPipeline(self.config)
        self.folder = folder
        self._recorder = Recorder(self.local.engines.synthesizer)
        self.local.engines.synthesizer = self._recorder  # type: ignore[assignment]

    def add_photograph(self) -> None:
        """The astronaut Eileen Collins, a public-domain photograph by NASA: a smile with teeth."""
        prepare_portrait(PHOTOGRAPH.read_bytes(), id=PHOTO, gender="female", size=self.config.avatars.size, store=self.local.store)

    def rig(self, avatar: str) -> Rig:
        return Rig.from_arrays(self.local.store.load(resolve(avatar)).arrays(ENGINE))

    def frames(self, avatar: str) -> ByteArray:
        return self.local.store.load(resolve(avatar)).frames

    def portrait(self, avatar: str) -> ByteArray:
        """The framed portrait, BGR."""
        picture = cv2.imdecode(np.frombuffer(self.local.store.load(resolve(avatar)).portrait_png, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        return np.asarray(picture, np.uint8)

    def frames_with(self, avatar: str, row: FloatArray, count: int) -> list[ByteArray]:
        """RGB frames with the row drawn on `count` places of the idle loop."""
        rig, loop = self.rig(avatar), self.frames(avatar)
        frames = []
        for n in np.linspace(0, len(loop), count, endpoint=False).astype(int):
            frame = loop[n].copy()
            paste(frame, render_crop(rig, int(n), row), rig.box)
            frames.append(np.asarray(cv2.cvtColor(frame, cv2.COLOR_YUV2RGB_I420), np.uint8))
        return frames

    def film(self, case: Case) -> Take:
        path = self.folder / f"{case.id}.mp4"
        request = SpeechRequest(case.text, voice=case.voice, gender=case.gender)
        if case.sound_only:
            asyncio.run(self._speak(request))
            audio = self._mp3()
            limits = self.config.limits
            pcm, phonemes = decode_speech(audio, min_s=limits.min_audio_s, max_s=limits.max_audio_s), None
            film = VideoRequest(case.id, resolve(case.avatar), audio=audio, paced=False)
        else:
            film, pcm, phonemes = VideoRequest(case.id, resolve(case.avatar), request, paced=False), None, None
        fragments, _ = asyncio.run(render_to_file(self.local, film, path))
        if pcm is None:
            pcm, phonemes = self._recorder.pcm, self._recorder.phonemes
        assert fragments[-1].total_frames is not None
        return Take(path, fragments[-1].total_frames, pcm, phonemes)

    def intended(self, take: Take) -> Conditioning:
        """What the engine means to show when it hears the whole utterance at once. Its memory grows with the square of the length."""
        return self.local.engine.listen(take.speech)

    def film_still(self, name: str, rig: Rig, take: Take) -> Path:
        """The same speech by a head that is held still: no sway, no nods, no blinks. Encoded as the service encodes."""
        rows = listen(take.speech, self.config.lipsync.animator.drive, head_motion=0.0).rows
        resting = idle_frame(rig, 0)
        parts = []
        with FragmentEncoder(rig.size, rig.size, self.config.mux.media) as encoder:
            parts.append(encoder.init_segment)
            encoder.push_audio(take.pcm)
            encoder.finish_audio(take.n_frames)
            for first in range(0, take.n_frames, SEGMENT_FRAMES):
                frames = []
                for row in rows[first : first + SEGMENT_FRAMES]:
                    frame = resting.copy()
                    if row.any():
                        paste(frame, render_crop(rig, 0, row), rig.box)
                    frames.append(frame)
                parts.append(encoder.encode(frames))
        path = self.folder / f"{name}.mp4"
        with path.open("wb") as file:
            to_mp4(parts, file)
        return path

    async def _speak(self, request: SpeechRequest) -> None:
        async for _ in self._recorder.stream(request):
            pass

    def _mp3(self) -> bytes:
        encoder = SpeechEncoder("mp3")
        return encoder.encode(self._recorder.pcm) + encoder.finish()

"""`listen` for MuseTalk: speech that is still arriving to the ten rows of Whisper states that each frame hears.

Whisper's states depend on everything in their 30 s, and most of all on their position in it. So a stretch is encoded with some context, at its
true position, without filling up the 30 s: that costs a fraction and goes on smoothly where the last stretch ended.

How close it is to the whole utterance, `python -m benchmarks.listening` measures, with trained weights (Whisper tiny.en) on speech that arrives in
pieces of 0.32 s (`benchmarks/results/listening.json`). Relative to their length the states are 0.15 away in English and 0.24 in Korean:

    look-ahead  0.08 s 0.23 0.30   0.16 s 0.18 0.26   0.24 s 0.15 0.24   0.48 s 0.12 0.21   0.96 s 0.11 0.19
    context     1 s    0.20 0.31   2 s    0.17 0.27   4 s    0.15 0.24   8 s    0.14 0.22   30 s   0.14 0.21
    silence     0 s    0.17 0.24   0.5 s  0.15 0.24   1 s    0.15 0.24   4 s    0.15 0.23   30 s   0.14 0.24

Recordings are heard in whole pieces of 30 s: all of them is there, and their rows are the published pipeline's to 1e-4 (of 1.5; that of 1.0 scales
its spectra by the whole file). A call then takes 0.4 s of a core instead of 0.08, for eight times as many frames; drawing these takes a core minutes.

All the context and all the silence there is leave 0.13 and 0.21: what comes later cannot be known. Each chosen value is where more of it buys little
for its delay or its work. At position 0 instead of the true one the states would be 0.55 and 0.71 away.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from museserve.messages import BoolArray, Conditioning, SpeechWindow
from museserve.timebase import FPS, SPEECH_RATE
from musetalk.neural.resample import to_whisper_rate
from musetalk.neural.whisper import FEATURE_RATE, PIECE_ROWS, ROW_SAMPLES, WINDOW_ROWS, Version, WhisperEncoder, frame_windows, log_mel, window_start
from musetalk.speech_cues.accents import activity, until_end
from musetalk.speech_cues.loudness import usable_level
from musetalk.speech_cues.segments import segments_of
from musetalk.speech_cues.sound_model import pauses_in
from musetalk.speech_cues.visemes import Kind

CONTEXT_S = 4.0
LOOKAHEAD_S = 0.24
PIECE_S = PIECE_ROWS / FEATURE_RATE  # what the published pipelines cut a file into, each heard by itself
SILENCE_S = 1.0  # zeros after the sound that is there, as the published zero-padding has them

_ROW_SPEECH = SPEECH_RATE // FEATURE_RATE  # 480 samples at 24 kHz


class WhisperListener:
    """Thread-safe; holds no state of an utterance.

    Args:
        device, dtype: where and in what the encoder runs; float32 on a CPU, float16 on a GPU.
        context_s, lookahead_s: how much sound before and after a frame counts; `SpeechBuffer` is told, so that it gives as much.
        silence_s: zeros after the sound; 30 fills the 30 s up, as the published pipelines do.
    """

    def __init__(
        self,
        encoder: WhisperEncoder,
        *,
        version: Version = "v15",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        context_s: float = CONTEXT_S,
        lookahead_s: float = LOOKAHEAD_S,
        silence_s: float = SILENCE_S,
    ) -> None:
        self.context_s, self.lookahead_s = context_s, lookahead_s
        self._encoder = encoder.to(device=device, dtype=dtype)
        self._version, self._device, self._dtype = version, torch.device(device), dtype
        # Hearing is a hundredth of drawing and everything waits for it, so on a card its kernels go first.
        self._stream = torch.cuda.Stream(self._device, priority=-1) if self._device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._silence_rows = round(silence_s * FEATURE_RATE)
        self._context_rows = round(context_s * FEATURE_RATE)

    @torch.inference_mode()
    def listen(self, speech: SpeechWindow) -> Conditioning:
        """Rows (n_frames, 50, 384) float16 without the positional encoding; a stretch in which nobody speaks is all zeros, and costs nothing."""
        speaking = is_speaking(speech)
        encoder = self._encoder
        shape = (speech.n_frames, WINDOW_ROWS * (len(encoder.layers) + 1), encoder.width)
        if not speaking.any():
            return Conditioning(speech.first_frame, np.zeros(shape, np.float16), speaking)
        with torch.cuda.stream(self._stream):  # None: as it is
            rows = self.hear(speech).to(torch.float16).cpu().numpy()
        return Conditioning(speech.first_frame, rows, speaking)

    def hear(self, speech: SpeechWindow) -> Tensor:
        """Rows (n_frames, 10 x layers, width) in the encoder's dtype, on its device, whoever speaks."""
        origin = speech.start // _ROW_SPEECH
        known = (speech.start + len(speech.pcm)) // _ROW_SPEECH  # rows of the utterance so far; the published pipelines drop a broken one at the end
        first = min(max(window_start(speech.first_frame), 0), known)
        last = min(window_start(speech.first_frame + speech.n_frames - 1) + WINDOW_ROWS, known)
        if self._version == "v1":
            first, last = min(first, max(known - 1, 0)), max(last, min(known, 1))
        pcm = torch.from_numpy(to_whisper_rate(speech.pcm)).to(self._device)
        rows = self._rows(pcm, origin, first, last, speech.whole)
        return frame_windows(rows, speech.first_frame, speech.n_frames, origin=first, end=known, version=self._version)

    def _rows(self, pcm: Tensor, origin: int, first: int, last: int, whole: bool) -> Tensor:
        """Rows `first` .. `last - 1` of the utterance, whose row `origin` is the first of `pcm` at 16 kHz; each 30 s piece by itself.

        whole: with all of its piece, and silence up to the 30 s.
        """
        parts = [pcm.new_zeros(0, len(self._encoder.layers) + 1, self._encoder.width, dtype=self._dtype)]
        for piece in range(first - first % PIECE_ROWS, last, PIECE_ROWS):
            a, b = max(first, piece), min(last, piece + PIECE_ROWS)
            begin = max(piece if whole else a - self._context_rows, piece, origin)
            sound = pcm[(begin - origin) * ROW_SAMPLES : (piece + PIECE_ROWS - origin) * ROW_SAMPLES]
            n_rows = piece + PIECE_ROWS - begin
            if not whole:
                n_rows = min(-(-len(sound) // ROW_SAMPLES) + self._silence_rows, n_rows)
            mel = log_mel(F.pad(sound, (0, n_rows * ROW_SAMPLES - len(sound))), self._encoder.n_mels)
            states = self._encoder(mel[None].to(self._dtype), final_norm=self._version == "v15", position=begin - piece)[0]
            parts.append(states[a - begin : b - begin])
        return torch.cat(parts)


def is_speaking(speech: SpeechWindow) -> BoolArray:
    """For each frame whether somebody speaks in its middle, by the rule that moves the animator's face.

    With margins of a few frames; never in the middle of a pause longer than 0.36 s.
    """
    times = (speech.first_frame + np.arange(speech.n_frames) + 0.5) / FPS
    level = usable_level(speech.level, speech.pcm)
    pauses = pauses_in(speech.pcm, speech.start / SPEECH_RATE, level, times)
    if speech.phonemes is not None:
        pauses += [segment for segment in segments_of(speech.phonemes) if segment.viseme.kind is Kind.PAUSE]
    return activity(pauses, times) * until_end(speech, times, 0.5 / FPS) > 0.0

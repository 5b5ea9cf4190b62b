"""How far Whisper's states of speech that is still arriving are from those of the whole utterance, and what hearing it costs.

    python -m benchmarks.listening WHISPER_FILE [--weights-are TEXT] [--json FILE]

WHISPER_FILE: whisper/pytorch_model.bin, tiny.pt, or the encoder's tensors alone under the same names. The offline voices speak English and
Korean; their speech goes through `SpeechBuffer` in pieces of 0.32 s, the worst case: each stretch is as short as it can be, its end as near.
recorded: the same as a recording, which is all there; somebody waits for its first second, which is heard as arriving speech is.

Distances are root mean squares over the frames in which somebody speaks: relative = |streamed - whole| / |whole|; of variation = the same, of
what is left of `whole` after its mean over time is taken away. keys: the relative one after the positional encoding and a projection of the size
of the UNet's first cross-attention, with generated weights.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from configs.models import SpeechConfig
from museserve.messages import FloatArray, SpeechChunk, SpeechRequest, SpeechWindow
from museserve.pipeline.speech_buffer import SpeechBuffer
from museserve.speech.synthesizer import Synthesizer
from museserve.timebase import SEGMENT_FRAMES, SPEECH_RATE, SPEECH_SAMPLES_PER_FRAME, frames_for
from musetalk.neural.listening import CONTEXT_S, LOOKAHEAD_S, PIECE_S, SILENCE_S, WhisperListener, is_speaking
from musetalk.neural.resample import to_whisper_rate
from musetalk.neural.whisper import WINDOW_ROWS, WhisperEncoder, frame_windows, whole_features
from musetalk.weights.checkpoint import read_checkpoint

TEXTS = {
    "en": "Tell me about a time you disagreed with a teammate. What did you do first, and what happened afterwards? "
    "I would like to hear which options you considered, and what you would do differently today.",
    "ko": "지금까지 진행한 프로젝트 가운데 가장 기억에 남는 것을 하나 골라서 설명해 주세요. "
    "어떤 문제가 있었고, 그 문제를 어떻게 해결하셨나요? 천천히 생각하고 답하셔도 됩니다.",
}
PIECE = SEGMENT_FRAMES * SPEECH_SAMPLES_PER_FRAME
ALL_S = 30.0
CHOSEN = {"context_s": CONTEXT_S, "lookahead_s": LOOKAHEAD_S, "silence_s": SILENCE_S}
VARIED: tuple[dict[str, Any], ...] = (
    *({"context_s": s} for s in (1.0, 2.0, 8.0, ALL_S)),
    *({"lookahead_s": s} for s in (0.08, 0.16, 0.32, 0.48, 0.64, 0.96)),
    *({"silence_s": s} for s in (0.0, 0.5, 2.0, 4.0)),
    {"silence_s": ALL_S},
    {"context_s": ALL_S, "silence_s": ALL_S},
    {"from_zero": True},
    {"from_zero": True, "silence_s": ALL_S},
    {"recorded": True},
)


def spoken() -> dict[str, FloatArray]:
    """Each text at 24 kHz, and both after one another, which is longer than 30 s."""
    synthesizer = Synthesizer(SpeechConfig(engine="offline"))

    async def speak(text: str, language: str) -> FloatArray:
        request = SpeechRequest(text, "auto", 0.9, language)
        return np.concatenate([chunk.pcm async for chunk in synthesizer.stream(request)])

    said = {language: asyncio.run(speak(text, language)) for language, text in TEXTS.items()}
    long = np.concatenate([said["en"], np.zeros(SPEECH_RATE // 2, np.float32), said["ko"], np.zeros(SPEECH_RATE // 2, np.float32), said["en"]])
    return {**said, "long": long}


def stretches(pcm: FloatArray, listener: WhisperListener, recorded: bool) -> Iterator[SpeechWindow]:
    buffer = SpeechBuffer(listener.context_s, listener.lookahead_s, piece_s=PIECE_S if recorded else 0.0)
    for start in range(0, len(pcm), PIECE):
        buffer.append(SpeechChunk(start, pcm[start : start + PIECE], final=start + PIECE >= len(pcm)))
        while (stretch := buffer.take()) is not None:
            yield stretch


def as_if_alone(speech: SpeechWindow) -> SpeechWindow:
    """The stretch as an utterance of its own, so that its first sample is at position 0 of the 30 s."""
    return replace(speech, start=0, first_frame=speech.first_frame - speech.start // SPEECH_SAMPLES_PER_FRAME)


def streamed(pcm: FloatArray, listener: WhisperListener, from_zero: bool, recorded: bool) -> tuple[Tensor, list[float]]:
    """Rows (n, tokens, width) of the frames that lie in the speech, and seconds of processor time of each call."""
    n, rows, cost = frames_for(len(pcm)), [], []
    for speech in stretches(pcm, listener, recorded):
        began = time.process_time()
        with torch.inference_mode():
            rows.append(listener.hear(as_if_alone(speech) if from_zero else speech))
        cost.append(time.process_time() - began)
    return torch.cat(rows)[:n], cost


def distances(got: Tensor, want: Tensor, speaking: Tensor, keys: Tensor, places: Tensor) -> dict[str, Any]:
    got, want = got[speaking].float(), want[speaking].float()

    def rms(x: Tensor) -> Tensor:
        return x.square().sum(dim=(0, 1, 3)).sqrt()  # of each layer

    def by_layer(x: Tensor) -> Tensor:
        return x.unflatten(1, (WINDOW_ROWS, -1))

    error, norm, own = rms(by_layer(got - want)), rms(by_layer(want)), rms(by_layer(want - want.mean(0)))
    of_frame = (got - want).square().sum((1, 2)).sqrt() / want.square().sum((1, 2)).mean().sqrt()
    got_keys, want_keys = (got + places) @ keys, (want + places) @ keys
    return {
        "relative_by_layer": _rounded(error / norm),
        "of_variation_by_layer": _rounded(error / own),
        "relative": _rounded(error.norm() / norm.norm()),
        "of_variation": _rounded(error.norm() / own.norm()),
        "relative_p95_frame": _rounded(of_frame.quantile(0.95)),
        "keys": _rounded((got_keys - want_keys).norm() / want_keys.norm()),
    }


def _rounded(x: Tensor) -> Any:
    return [round(v, 4) for v in x.tolist()] if x.dim() else round(float(x), 4)


def positions(tokens: int, width: int) -> Tensor:
    """MuseTalk's sinusoids (tokens, width), which the UNet adds to the rows."""
    angle = torch.arange(tokens)[:, None] * torch.exp(-torch.arange(0, width, 2) * (np.log(10_000.0) / width))
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).float()


def measure(encoder: WhisperEncoder, said: dict[str, FloatArray], settings: dict[str, Any]) -> dict[str, Any]:
    options = {**CHOSEN, **{k: v for k, v in settings.items() if k not in ("from_zero", "recorded")}}
    listener = WhisperListener(encoder, **options)
    keys = torch.randn(encoder.width, 320, generator=torch.Generator().manual_seed(0)) / encoder.width**0.5
    row: dict[str, Any] = {**options, "position": "from 0" if settings.get("from_zero") else "true", "recorded": bool(settings.get("recorded"))}
    calls: list[float] = []
    for name, pcm in said.items():
        whole = whole_features(encoder, torch.from_numpy(to_whisper_rate(pcm)))
        n = frames_for(len(pcm))
        want = frame_windows(whole, 0, n, end=len(whole))
        got, cost = streamed(pcm, listener, bool(settings.get("from_zero")), row["recorded"])
        speaking = torch.from_numpy(is_speaking(SpeechWindow(0, pcm, 0, n, final=True)))
        row[name] = distances(got, want, speaking, keys, positions(want.shape[1], encoder.width))
        row[name]["cpu_ms_per_second_of_speech"] = round(1e3 * sum(cost) / (len(pcm) / SPEECH_RATE), 1)
        calls += cost
    row["cpu_ms_per_call_p50"] = round(1e3 * statistics.median(calls), 1)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--weights-are", default="", help="what the weights are, for the record")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    encoder = WhisperEncoder.from_state(read_checkpoint(args.weights), args.weights.name)
    said = spoken()
    report: dict[str, Any] = {
        "weights": args.weights_are or args.weights.name,
        "speech_s": {name: round(len(pcm) / SPEECH_RATE, 2) for name, pcm in said.items()},
        "chosen": CHOSEN,
        "measured": [],
    }
    print(
        f"{'context':>8}{'ahead':>7}{'silence':>8} {'position':<8}"
        + "".join(f"{f'{n}: rel':>12}{'p95':>7}{'of var':>8}{'keys':>7}" for n in said)
        + f"{'ms/call':>9}"
    )
    for settings in ({}, *VARIED):
        row = measure(encoder, said, settings)
        report["measured"].append(row)
        shown = "".join(f"{row[n]['relative']:>12}{row[n]['relative_p95_frame']:>7}{row[n]['of_variation']:>8}{row[n]['keys']:>7}" for n in said)
        kind = "recorded" if row["recorded"] else row["position"]
        print(
            f"{row['context_s']:>8}{row['lookahead_s']:>7}{row['silence_s']:>8} {kind:<8}{shown}{row['cpu_ms_per_call_p50']:>9}",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

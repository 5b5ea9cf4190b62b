"""The screen of `museserve top`: tables of what `museserve.app.top.report` tells."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

Report = dict[str, Any]


def screen(told: Report, source: str, below: str = "") -> RenderableType:
    """below: what stands under it."""
    parts = [_head(told, source), _utterances(told), _deployments(told), _stages(told), _nodes(told)]
    if told["silent"]:
        parts.append(Text(f"no answer from {', '.join(told['silent'])}", style="yellow"))
    return Group(*parts, *([Text(below, style="dim")] if below else []))


def _head(told: Report, source: str) -> RenderableType:
    window = "since the start" if told["window_s"] is None else f"over the last {told['window_s']:.0f} s"
    return Text(f"museserve  {source}  {window}", style="bold", overflow="ellipsis", no_wrap=True)


def _utterances(told: Report) -> RenderableType:
    sessions, first, again = told["sessions"], told["first_fragment_ms"], told["session_first_fragment_ms"]
    ended = {**told["utterances"]}
    bad = told["underruns"] + ended.get("failed", 0) + sum(told["speech_errors"].values())
    rows = [
        ("live", f"{told['live_utterances']} utterances, {sessions['connected']} sessions ({sessions['lost']} without a connection), "
                 f"{sessions['queued_utterances']} utterances of theirs wait or play"),
        ("first fragment", f"p50 {_ms(first['p50'])}, p95 {_ms(first['p95'])} of {first['count']}; "
                           f"in sessions p50 {_ms(again['p50'])}, p95 {_ms(again['p95'])} of {again['count']}"),
        ("frames", f"{_pairs(told['frames'])}" + ("" if told["frames_per_s"] is None else f"; {told['frames_per_s']:.1f} a second")),
        ("ended", f"{_pairs(ended)}; of sessions {_pairs(told['session_utterances'])}"),
        ("sessions", _pairs(told["session_changes"])),
        ("answers", f"{_pairs(told['answers'])}; cache {_pairs(told['cache'])}"),
        ("sent again", f"{told['segment_retries']} segments, late calls {_pairs(told['hedged_calls'])}, "
                       f"streams of a lost {_pairs(told['takeovers'])}"),
        ("faults", f"{told['underruns']} underruns, {ended.get('failed', 0)} utterances failed, speech {_pairs(told['speech_errors'])}"),
    ]  # fmt: skip
    table = Table.grid(padding=(0, 2))
    for name, text in rows:
        table.add_row(Text(name, style="cyan"), Text(text, style="red" if name == "faults" and bad else ""))
    return table


def _deployments(told: Report) -> RenderableType:
    table = _table("", "replicas", "wanted", "working", "waiting", "calls", "a second", "p50", "p95", "errors", "memory")
    for name, one in told["deployments"].items():
        short = one["replicas"] < one["wanted"]
        table.add_row(
            name,
            Text(str(one["replicas"]), style="red" if short else ""),
            str(one["wanted"]),
            str(one["working"]),
            Text(str(one["waiting"]), style="yellow" if one["waiting"] else ""),
            str(one["calls"]),
            _number(one["calls_per_s"]),
            _ms(one["latency_ms"]["p50"]),
            _ms(one["latency_ms"]["p95"]),
            Text(str(one["errors"]), style="red" if one["errors"] else ""),
            _mb(one["memory_bytes"]),
        )
    return table


def _stages(told: Report) -> RenderableType:
    """Side by side: when each stage of an utterance is first over, and what single steps take."""
    first = _table("first over after", "p50", "p95")
    for stage, times in told["stages_ms"].items():
        first.add_row(stage.replace("_", " "), _ms(times["p50"]), _ms(times["p95"]))
    steps = _table("step", "p50", "p95")
    for title, key, unit in (
        ("first sound of a voice", "tts_first_chunk_ms", " ms"),
        ("hearing a stretch", "listen_ms", " ms"),
        ("a segment's wait", "segment_wait_ms", " ms"),
        ("frames of a batch", "batch_frames", ""),
        ("drawing a frame", "render_frame_ms", " ms"),
        ("encoding a frame", "encode_frame_ms", " ms"),
    ):
        steps.add_row(title, _number(told[key]["p50"], unit), _number(told[key]["p95"], unit))
    both = Table.grid(padding=(0, 4))
    both.add_row(first, steps)
    return both


def _nodes(told: Report) -> RenderableType:
    table = _table("node", "processor", "memory", "cards")
    for ip, node in told["nodes"].items():
        cards = [f"{gpu['busy_percent']:.0f} %, {gpu['memory_used_mb']:,.0f} MB" for gpu in node["gpus"]]
        memory = f"{_mb(node['memory_used_bytes'])} of {_mb(node['memory_bytes'])}"
        table.add_row(ip, f"{node['cpu_percent']:.0f} %", memory, "; ".join(cards) or "none")
    return table


def _table(name: str, *columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="cyan")
    table.add_column(name)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _ms(value: float | None) -> str:
    return _number(value, " ms")


def _number(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:,.0f}{unit}" if value >= 100 else f"{value:.1f}{unit}"


def _mb(value: float) -> str:
    return f"{value / 1e6:,.0f} MB"


def _pairs(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"

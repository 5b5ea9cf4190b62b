"""`museserve`: say a sentence into a file, serve, manage avatars, and find out what is wrong with an installation.

Everything heavy is imported inside the command that needs it, so that `--help` answers at once. Results go to stdout, progress and logs to
stderr; what the user can mend is one line and exit status 1.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import museserve
from museserve.app.commands import avatars, cache, keys, weights
from museserve.app.commands.terminal import ConfigOption, bar, call, log_to_stderr, note, read_file, settings_of, store_of
from museserve.errors import MuseserveError, RequestError
from museserve.timebase import FPS

if TYPE_CHECKING:
    from configs.models import AppConfig
    from museserve.messages import SpeechRequest

EXAMPLE = "Tell me about a project you are proud of."

app = typer.Typer(
    name="museserve",
    help="Talking avatars as a service: text in, streamed lip-synced video out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(avatars.app, name="avatar")
app.add_typer(cache.app, name="cache")
app.add_typer(weights.app, name="weights")
app.add_typer(keys.app, name="keys")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"museserve {museserve.__version__}")
        raise typer.Exit


@app.callback()
def _all_commands(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="print the version and end")] = False,
) -> None:
    pass


AvatarOption = Annotated[str, typer.Option(help="id of an avatar, or man / woman", show_default="the configured one")]
VoiceOption = Annotated[str, typer.Option(help="id of a voice; auto = one that fits the avatar")]
SpeedOption = Annotated[float, typer.Option(min=0.25, max=4.0, help="1 = the voice's own")]
LanguageOption = Annotated[str, typer.Option(help="BCP 47 tag such as en or ko; auto = seen from the text")]
CaptionsOption = Annotated[
    Literal["none", "vtt", "track"],
    typer.Option(help="vtt = a WebVTT file beside the mp4; track = a text track inside it"),
]


@app.command()
def say(
    text: Annotated[str | None, typer.Argument(help="what to say; - reads it from stdin", show_default=False)] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="the mp4 to write")] = Path("out.mp4"),
    audio: Annotated[Path | None, typer.Option(help="recorded speech to lip-sync instead of text: wav, mp3, m4a, ogg, webm")] = None,
    avatar: AvatarOption = "",
    voice: VoiceOption = "auto",
    speed: SpeedOption = 1.1,
    language: LanguageOption = "auto",
    captions: CaptionsOption = "none",
    config: ConfigOption = "local",
) -> None:
    """Film one utterance into an mp4. Needs no server."""
    settings = settings_of(config)
    if (text is None) == (audio is None):
        raise RequestError("give either a text or --audio FILE" + ("" if text is None else ", not both"))
    _check_output(output)
    words = sys.stdin.read() if text == "-" else text
    speech = None if words is None else _speech(words, voice, speed, language, settings)
    if speech is None and captions != "none":
        raise RequestError(f"--captions {captions} needs a text: the words of recorded speech are not known")
    recorded = None if audio is None else read_file(audio, settings.limits.max_body_bytes)
    began = time.perf_counter()

    from museserve.app.inprocess import LocalPipeline, render_to_file
    from museserve.media.captions import cues, webvtt
    from museserve.messages import VideoRequest
    from museserve.speech.engines.voices import TITLES
    from musetalk.avatars.builtin import resolve
    from musetalk.avatars.progress import PREPARING_SHIPPED, in_lines

    store = store_of(settings)
    meta = store.meta(resolve(avatar or settings.avatars.default))
    local = LocalPipeline(settings, store, progress=in_lines(note, PREPARING_SHIPPED))
    speech = speech and replace(speech, gender=meta.gender)
    request = VideoRequest(output.stem, meta.id, speech, recorded, paced=False, text_track=captions == "track")
    loaded = time.perf_counter()
    with bar(unit=" frames") as show:
        film = render_to_file(local, request, output, lambda f: show(f.first_frame + f.n_frames, f.total_frames))
        fragments, heard = asyncio.run(film)
    if captions == "vtt":
        output.with_suffix(".vtt").write_text(webvtt(cues(heard)), encoding="utf-8")
    seconds = (fragments[-1].total_frames or 0) / meta.fps
    took = time.perf_counter() - loaded
    spoke, info = local.engines.spoke, local.engines.synthesizer.info
    if (head := fragments[0].head) and head.notice:
        note(head.notice)
    elif "espeak" in spoke and "supertonic" not in info.offline:
        note(f"{TITLES['espeak']} spoke: {info.natural}")
    heard_as = ", ".join(TITLES[name] for name in spoke) or "as recorded"
    loading = f"after {loaded - began:.2f} s of loading"
    note(f"{output}: {seconds:.2f} s of video in {took:.2f} s, {loading}; voice: {heard_as}; lips: {local.engine.info.name}")


@app.command("spoken")
def show_spoken(
    text: Annotated[str, typer.Argument(help="what to look at; - reads it from stdin", show_default=False)],
    voice: VoiceOption = "auto",
    speed: SpeedOption = 1.1,
    language: LanguageOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="print a list of clauses")] = False,
    config: ConfigOption = "local",
) -> None:
    """Show what an offline voice makes of a text: each clause as written, as spoken, its phonemes, and what changed it."""
    settings = settings_of(config)
    request = _speech(sys.stdin.read() if text == "-" else text, voice, speed, language, settings)

    from museserve.speech.spoken import spoken

    clauses = list(spoken(request, settings.speech, settings.weights))
    if as_json:
        typer.echo(json.dumps([clause.to_json() for clause in clauses], ensure_ascii=False, indent=1))
        return
    for clause in clauses:
        rows = [("written", clause.written), ("spoken", clause.spoken), ("pronounced", clause.pronounced), ("notice", clause.notice)]
        rows += [("changed", f"{change.written!r} to {change.spoken!r} by {change.rule}") for change in clause.changes]
        rows.append(("phonemes", " ".join(f"{symbol}@{start:.2f}" for symbol, start, _ in clause.phonemes)))
        typer.echo(f"{clause.language}, {clause.voice}")
        typer.echo("".join(f"  {name:<11}{value}\n" for name, value in rows if value))


@app.command()
def prerender(
    questions: Annotated[Path, typer.Argument(help="a text file, one utterance a line; # begins a comment; - reads stdin", show_default=False)],
    avatar: AvatarOption = "",
    voice: VoiceOption = "auto",
    speed: SpeedOption = 1.1,
    language: LanguageOption = "auto",
    url: Annotated[
        str, typer.Option(help="let a running service do it, e.g. http://127.0.0.1:8001", show_default="done here, no service needed")
    ] = "",
    tenant: Annotated[
        str, typer.Option(help="whose cache it is for, where the service asks for keys and no --url is given", show_default=False)
    ] = "",
    key: Annotated[str, typer.Option(envvar="MUSESERVE_KEY", help="of a service that asks for one", show_default=False)] = "",
    config: ConfigOption = "local",
) -> None:
    """Film utterances into the cache, so that they are there at once when they are asked for with the same voice and speed."""
    settings = settings_of(config)
    texts = _lines(questions)
    if url:
        made = _prerender_there(url, key, texts, {"avatar": avatar or None, "voice": voice, "speed": speed, "language": language})
    else:
        if not settings.cache.enabled:
            raise RequestError("the cache is off in this configuration (cache.enabled); nothing can be prerendered")
        made = _prerender_here(
            settings, tenant, avatar or settings.avatars.default, [_speech(text, voice, speed, language, settings) for text in texts]
        )
    for text, was_there, frames in made:
        typer.echo(f"{'there' if was_there else 'made':<6} {frames / FPS:6.2f} s  {text}")


@app.command()
def serve(
    config: ConfigOption = "local",
    host: Annotated[str | None, typer.Option(help="address to listen on", show_default="from the configuration")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="0 = any free one", show_default="from the configuration")] = None,
    auth: Annotated[
        Literal["none", "keys"] | None,
        typer.Option(help="who may use it: whoever reaches it, or who has a key (museserve keys)", show_default="from the configuration"),
    ] = None,
) -> None:
    """Run the service until Ctrl-C."""
    over = {name: value for name, value in {"host": host, "port": port}.items() if value is not None}
    settings = settings_of(config, {"server": over, **({"access": {"auth": auth}} if auth else {})})
    log_to_stderr(settings.server.log_level, settings.server.log_format)
    began = time.perf_counter()
    note("starting the service ...")

    import signal

    from museserve.app import fork_server

    if settings.server.fork_workers:
        fork_server.prepare()
    from museserve.app.local import running, wait_for_loss

    def stop_when_told() -> None:
        """SIGINT, too: a shell that starts something in the background has it ignored."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)

    stop_when_told()  # also while it starts, so that nothing is left behind
    with running(settings, told=note) as url:
        with suppress(KeyboardInterrupt):  # what follows may take its time; a second Ctrl-C ends it at once
            stop_when_told()  # Ray has put a handler of its own in its place
            typer.echo(_ready(url, time.perf_counter() - began, settings.access.auth == "keys"))
            sys.stdout.flush()
            wait_for_loss()
        note("stopping ...")


@app.command()
def top(
    once: Annotated[bool, typer.Option("--once", help="print one reading, counted since the service started, and end")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON: with --once one object, else one a line")] = False,
    every: Annotated[float, typer.Option(min=0.2, max=3_600, help="seconds between two readings")] = 1.0,
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="of a service on this machine", show_default="from the configuration")] = None,
    url: Annotated[
        list[str] | None, typer.Option(help="the dashboard of a cluster's head, http://HEAD:8265, or a node's metrics, http://NODE:8080/metrics")
    ] = None,
    prometheus: Annotated[str, typer.Option(help="read a Prometheus that scrapes the nodes, e.g. http://127.0.0.1:9090", show_default=False)] = "",
    config: ConfigOption = "local",
) -> None:
    """Watch what a running service does: load, latency, replicas, faults. q ends it."""
    from museserve.app.local import RAYS_LIST, nodes_file
    from museserve.app.top import run, source_of

    files = [nodes_file(port or settings_of(config).server.port), Path("/tmp/ray") / RAYS_LIST]
    run(source_of(url or [], prometheus, files[: 1 if port else 2]), once=once, as_json=as_json, every_s=every)


@app.command()
def flags(config: ConfigOption = "local") -> None:
    """Print the environment that Ray's processes need on every node of a cluster, as KEY=VALUE lines."""
    from museserve.app.ray_flags import node_flags

    for name, value in node_flags(settings_of(config).server).items():
        typer.echo(f"{name}={value}")


@app.command("serve-config")
def serve_config(
    config: ConfigOption = "cluster",
    host: Annotated[str, typer.Option(help="address that every node listens on")] = "0.0.0.0",
    port: Annotated[int, typer.Option(min=1, max=65_535)] = 8000,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="a key of the configuration: avatars.uri=s3://...")] = None,
) -> None:
    """Print the Serve document of a cluster: for `serve deploy`, or as a RayService's serveConfigV2."""
    from museserve.app.serve_config import as_yaml, parse_overrides, serve_document

    typer.echo(as_yaml(serve_document(settings_of(config, parse_overrides(settings or [])), host, port)), nl=False)


@app.command()
def doctor(config: ConfigOption = "local") -> None:
    """Check this installation, part by part; exit status 1 when something must be mended."""
    from museserve.app.doctor import checks

    failed = 0
    for check in checks(config):
        mark = {True: "✓", False: "✗", None: "·"}[check.ok]
        typer.echo(f"{mark} {check.name}: {check.found}")
        if check.ok is False:
            failed += 1
            typer.echo(f"    -> {check.mend}")
    if failed:
        raise typer.Exit(1)


def main() -> None:
    """The console script. A mistake of the user's is one line on stderr; anything else keeps its traceback."""
    try:
        app()
    except MuseserveError as error:
        sys.exit(f"museserve: {error}")
    except OSError as error:
        if error.filename is None:
            raise
        sys.exit(f"museserve: {error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _speech(text: str, voice: str, speed: float, language: str, settings: AppConfig) -> SpeechRequest:
    """Checked before anything is loaded."""
    from museserve.speech.request import parse_delivery, parse_speech

    return parse_speech(text, parse_delivery(voice, speed, language), settings.speech.max_text_chars)


def _lines(questions: Path) -> list[str]:
    raw = sys.stdin.read() if str(questions) == "-" else questions.read_text(encoding="utf-8")
    texts = [line.strip() for line in raw.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not texts:
        raise RequestError(f"{questions}: there is no utterance in it; one a line is wanted")
    return texts


def _prerender_here(settings: AppConfig, tenant: str, avatar: str, speeches: list[SpeechRequest]) -> Iterator[tuple[str, bool, int]]:
    from museserve.app.inprocess import LocalPipeline
    from museserve.messages import VideoRequest
    from musetalk.avatars.builtin import BUILTIN, resolve
    from musetalk.avatars.format import id_of
    from musetalk.avatars.progress import PREPARING_SHIPPED, in_lines

    local = LocalPipeline(settings, cache=True, progress=in_lines(note, PREPARING_SHIPPED))
    name = resolve(avatar)
    everyones = name in (*BUILTIN, resolve(settings.avatars.default))
    meta = local.store.meta(id_of("" if everyones else tenant, name))
    for speech in speeches:
        request = VideoRequest("", meta.id, replace(speech, gender=meta.gender), paced=False, keep=True, tenant=tenant)
        fragments = asyncio.run(local.fragments(request))
        was_there = fragments[0].head is not None and fragments[0].head.cached == "segments"
        yield speech.text, was_there, fragments[-1].total_frames or 0


def _prerender_there(url: str, key: str, texts: list[str], manner: dict[str, Any]) -> Iterator[tuple[str, bool, int]]:
    """Through `POST /v1/prerender`, a text at a time, so that each is told when it is done."""
    for text in texts:
        made = call(url, key, "POST", "/v1/prerender", f"refused {text[:60]!r}", json={"texts": [text], **manner}).json()["data"][0]
        yield made["text"], made["cache"] != "miss", made["frames"]


def _check_output(output: Path) -> None:
    """Before any work is done."""
    if output.suffix.lower() != ".mp4":
        raise RequestError(f"{output}: the output is an mp4, so its name must end in .mp4")
    if not output.parent.is_dir():
        raise RequestError(f"{output}: the folder {output.parent} does not exist")


def _ready(url: str, took_s: float, keys: bool) -> str:
    bearer = ' -H "Authorization: Bearer $MUSESERVE_KEY"' if keys else ""
    return f"""
museserve is ready after {took_s:.1f} s: open {url}/

  curl -sS {url}/v1/videos{bearer} -H 'Content-Type: application/json' -d '{{"text": "{EXAMPLE}"}}' -o out.mp4

Ctrl-C stops it."""


if __name__ == "__main__":
    main()

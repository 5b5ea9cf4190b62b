"""`museserve`: say a sentence into a file, serve, manage avatars, and find out what is wrong with an installation.

Everything heavy is imported inside the command that needs it, so that `--help` answers at once. Results go to stdout, progress and logs to
stderr; what the user can mend is one line and exit status 1.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from museserve.errors import MuseserveError, RequestError
from museserve.timebase import FPS

if TYPE_CHECKING:
    from configs.models import AppConfig
    from museserve.messages import SpeechRequest
    from musetalk.avatars.store import AvatarStore
    from musetalk.weights.catalogue import WeightFile

CONFIG_HELP = "a YAML file, or the name of one that ships with the project"
EXAMPLE = "Tell me about a project you are proud of."

app = typer.Typer(
    name="museserve",
    help="Talking avatars as a service: text in, streamed lip-synced video out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
avatar_app = typer.Typer(help="Add, prepare, list and delete avatars.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(avatar_app, name="avatar")
cache_app = typer.Typer(help="Look after what is kept of spoken texts.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(cache_app, name="cache")
weights_app = typer.Typer(help="List, download and verify MuseTalk's model files.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(weights_app, name="weights")

keys_app = typer.Typer(help="Make, list and revoke the keys of access.auth: keys.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(keys_app, name="keys")

Gender = Literal["female", "male"]
Purpose = Literal["v15", "v1", "restore", "taesd", "all"]
KeysFileOption = Annotated[Path | None, typer.Option("--file", help="the keys' file", show_default="access.keys_file of the configuration")]
ConfigOption = Annotated[str, typer.Option("--config", "-c", help=CONFIG_HELP)]
AvatarOption = Annotated[str, typer.Option(help="id of an avatar, or man / woman", show_default="the configured one")]
VoiceOption = Annotated[str, typer.Option(help="id of a voice; auto = one that fits the avatar")]
SpeedOption = Annotated[float, typer.Option(min=0.25, max=4.0, help="1 = the voice's own")]
LanguageOption = Annotated[str, typer.Option(help="BCP 47 tag such as en or ko; auto = seen from the text")]
CaptionsOption = Annotated[
    Literal["none", "vtt", "track"],
    typer.Option(help="vtt = a WebVTT file beside the mp4; track = a text track inside it"),
]
PurposeOption = Annotated[
    Purpose | None,
    typer.Option("--for", help="MuseTalk 1.5 or 1.0, GFPGAN's sharper faces, the small decoder", show_default="the configured version"),
]
NamesArgument = Annotated[list[str] | None, typer.Argument(metavar="[FILE]...", help="as `weights list` names them", show_default="all of --for")]


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
    settings = _config(config)
    if (text is None) == (audio is None):
        raise RequestError("give either a text or --audio FILE" + ("" if text is None else ", not both"))
    _check_output(output)
    words = sys.stdin.read() if text == "-" else text
    speech = None if words is None else _speech(words, voice, speed, language, settings)
    if speech is None and captions != "none":
        raise RequestError(f"--captions {captions} needs a text: the words of recorded speech are not known")
    recorded = None if audio is None else _read(audio, settings.limits.max_body_bytes)
    began = time.perf_counter()

    from museserve.app.inprocess import LocalPipeline, render_to_file
    from museserve.media.captions import cues, webvtt
    from museserve.messages import VideoRequest
    from musetalk.avatars.builtin import resolve
    from musetalk.avatars.progress import PREPARING_SHIPPED, in_lines

    store = _store(settings)
    meta = store.meta(resolve(avatar or settings.avatars.default))
    local = LocalPipeline(settings, store, progress=in_lines(_note, PREPARING_SHIPPED))
    speech = speech and replace(speech, gender=meta.gender)
    request = VideoRequest(output.stem, meta.id, speech, recorded, paced=False, text_track=captions == "track")
    loaded = time.perf_counter()
    with _bar(unit=" frames") as show:
        film = render_to_file(local, request, output, lambda f: show(f.first_frame + f.n_frames, f.total_frames))
        fragments, heard = asyncio.run(film)
    if captions == "vtt":
        output.with_suffix(".vtt").write_text(webvtt(cues(heard)), encoding="utf-8")
    seconds = (fragments[-1].total_frames or 0) / meta.fps
    took = time.perf_counter() - loaded
    _note(f"{output}: {seconds:.2f} s of video in {took:.2f} s, after {loaded - began:.2f} s of loading; lips: {local.engine.info.name}")


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
    settings = _config(config)
    request = _speech(sys.stdin.read() if text == "-" else text, voice, speed, language, settings)

    from museserve.speech.spoken import spoken

    clauses = list(spoken(request, settings.speech))
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
    settings = _config(config)
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
    settings = _config(config, {"server": over, **({"access": {"auth": auth}} if auth else {})})
    _log_to_stderr(settings.server.log_level, settings.server.log_format)
    began = time.perf_counter()
    _note("starting the service ...")

    import signal

    from museserve.app.local import running, wait_for_loss

    def stop_when_told() -> None:
        """SIGINT, too: a shell that starts something in the background has it ignored."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)

    stop_when_told()  # also while it starts, so that nothing is left behind
    with running(settings, told=_note) as url:
        with suppress(KeyboardInterrupt):  # what follows may take its time; a second Ctrl-C ends it at once
            stop_when_told()  # Ray has put a handler of its own in its place
            typer.echo(_ready(url, time.perf_counter() - began, settings.access.auth == "keys"))
            sys.stdout.flush()
            wait_for_loss()
        _note("stopping ...")


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

    files = [nodes_file(port or _config(config).server.port), Path("/tmp/ray") / RAYS_LIST]
    run(source_of(url or [], prometheus, files[: 1 if port else 2]), once=once, as_json=as_json, every_s=every)


@app.command()
def flags(config: ConfigOption = "local") -> None:
    """Print the environment that Ray's processes need on every node of a cluster, as KEY=VALUE lines."""
    from museserve.app.ray_flags import node_flags

    for name, value in node_flags(_config(config).server).items():
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

    typer.echo(as_yaml(serve_document(_config(config, parse_overrides(settings or [])), host, port)), nl=False)


@avatar_app.command("add")
def add_avatar(
    source: Annotated[
        Path, typer.Argument(help="a portrait: one face from the front, mouth closed; or a clip, which MuseTalk alone can draw", show_default=False)
    ],
    avatar_id: Annotated[str, typer.Option("--id", help="a-z, 0-9, - and _; TENANT.ID = of a tenant", show_default="from the file's name")] = "",
    name: Annotated[str, typer.Option(help="what people see", show_default="the id")] = "",
    gender: Annotated[Gender, typer.Option(help="which voice fits")] = "female",
    config: ConfigOption = "local",
) -> None:
    """Prepare an avatar from a portrait or a clip and print what was found in it."""
    settings = _config(config)
    data = _read(source, settings.limits.max_clip_bytes, "limits.max_clip_bytes")

    import yaml

    from musetalk.avatars.from_portrait import check_request
    from musetalk.avatars.preparation import AvatarPreparation
    from musetalk.factory import load_face_networks

    chosen = avatar_id or re.sub("[^a-z0-9]", "-", source.stem.lower()).strip("-")[:64] or "avatar"
    check_request(chosen, gender)  # before anything is loaded
    networks, reason = load_face_networks(settings)
    preparation = AvatarPreparation(settings, _store(settings), networks, reason)
    with _bar(total=100, bar_format="{desc:<24} {percentage:3.0f} %|{bar}| {elapsed}") as show:
        meta = preparation.prepare(data, chosen, name, gender, progress=lambda step, done: show(100 * done, 100, step))
    found = {"id": meta.id, "version": meta.version, "engines": sorted(meta.engines), "report": meta.report}
    typer.echo(yaml.safe_dump(found, sort_keys=False, allow_unicode=True).rstrip())


@avatar_app.command("prepare")
def prepare_avatars(config: ConfigOption = "local") -> None:
    """Prepare the shipped avatars as a configuration wants them, and check all their files; those that are there already stay."""
    for meta in _store(_config(config)).list():
        if meta.builtin:
            typer.echo(f"{meta.id}: version {meta.version}")


@avatar_app.command("list")
def list_avatars(config: ConfigOption = "local") -> None:
    """Print every avatar: id, name, gender, size, built in or added."""
    from musetalk.avatars.builtin import BUILTIN, shipped_facts
    from musetalk.avatars.stores import open_store

    known = open_store(_config(config).avatars).list()  # as it is: the service that uses it may have other settings
    for meta in known:
        typer.echo(f"{meta.id:<24} {meta.name:<24} {meta.gender:<7} {meta.size:>4} px  {'built in' if meta.builtin else 'added'}")
    for avatar_id in sorted(set(BUILTIN) - {meta.id for meta in known}):
        name, gender = shipped_facts(avatar_id)
        typer.echo(f"{avatar_id:<24} {name:<24} {gender:<7} {'':>4}     built in, prepared when it is first used")


@avatar_app.command("delete")
def delete_avatar(avatar_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)], config: ConfigOption = "local") -> None:
    """Delete an avatar that was added."""
    from musetalk.avatars.stores import open_store

    open_store(_config(config).avatars).delete(avatar_id)
    _note(f"{avatar_id} is deleted")


@cache_app.command("clear")
def clear_cache(
    url: Annotated[
        str,
        typer.Option(help="let a running service do it, e.g. http://127.0.0.1:8001", show_default="the configured store alone, of all tenants"),
    ] = "",
    key: Annotated[str, typer.Option(envvar="MUSESERVE_KEY", help="of a service that asks for one, whose tenant it is", show_default=False)] = "",
    config: ConfigOption = "local",
) -> None:
    """Remove what is kept of every spoken text: speech, films, captions."""
    if url:
        _call(url, key, "DELETE", "/v1/cache", "the cache cannot be cleared")
        _note(f"the cache of {url} is empty")
        return
    from museserve.runtime.blob_store import BlobStore

    cache = _config(config).cache
    BlobStore(cache.place, cache.max_bytes, own=not cache.uri).clear()
    _note(f"{cache.place} is empty; a service that runs has some of it in memory for up to ten minutes, unless it is told by --url")


@keys_app.command("create")
def make_key(
    tenant: Annotated[str, typer.Argument(help="whose avatars, captions and cached utterances it reaches: a-z, 0-9, - and _", show_default=False)],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="what it may do: speak, avatars (make and delete them), metrics; can be given again", show_default="speak and avatars"),
    ] = None,
    days: Annotated[float | None, typer.Option(help="how long it is valid", show_default="until it is revoked")] = None,
    name: Annotated[str, typer.Option(help="a note of what it is for")] = "",
    file: KeysFileOption = None,
    config: ConfigOption = "local",
) -> None:
    """Make a key and print it, this once: only its hash is kept. A running service knows it within a second."""
    from museserve.access.keys import create_key

    path = file or _config(config).access.keys_path
    key, stored = create_key(path, tenant, scope or ["speak", "avatars"], days, name)
    typer.echo(key)
    _note(f"{stored.id} of {tenant}, for {', '.join(sorted(stored.scopes))}, is kept in {path}; the older keys of {tenant} stay valid until revoked")


@keys_app.command("list")
def list_keys(file: KeysFileOption = None, config: ConfigOption = "local") -> None:
    """Print every key: id, tenant, scopes, state, until when, what for. The keys themselves are not kept."""
    from museserve.access.keys import read_keys

    for key in read_keys(file or _config(config).access.keys_path).keys:
        until = key.expires.isoformat() if key.expires else "-"
        typer.echo(f"{key.id}  {key.tenant:<24} {','.join(sorted(key.scopes)):<24} {key.state:<8} {until:<26} {key.name}".rstrip())


@keys_app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="as `keys list` prints it", show_default=False)],
    file: KeysFileOption = None,
    config: ConfigOption = "local",
) -> None:
    """Let a key in no more, nor the session tokens that were made with it. Its sessions end within seconds."""
    from museserve.access.keys import revoke_key

    stored = revoke_key(file or _config(config).access.keys_path, key_id)
    _note(f"{stored.id} of {stored.tenant} is revoked")


@weights_app.command("list")
def list_weights(purpose: PurposeOption = None, config: ConfigOption = "local") -> None:
    """Print every model file: whether it is there, its size, what needs it, its licence and where it comes from."""
    from musetalk.weights.folder import WeightsFolder

    settings = _config(config)
    folder = WeightsFolder(settings.weights)
    typer.echo(f"in {folder.uri}:")
    for file in _weight_files(settings, None, purpose or "all"):
        status = folder.status(file)
        size = f"{file.bytes:,} bytes" if file.bytes else "size not published"
        other = f" as {status.name}" if status.name != file.name else ""
        typer.echo(f"{status.state.value:<13} {file.name}{other}: {file.description}, {size}")
        typer.echo(f"{'':<13} for {', '.join(file.needed_for)}{', can be left out' if file.optional else ''}; from {file.url}")
        typer.echo(f"{'':<13} licence: {file.licence}")


@weights_app.command("download")
def download_weights(
    names: NamesArgument = None,
    purpose: PurposeOption = None,
    again: Annotated[bool, typer.Option("--again", help="fetch also what is there in its full size")] = False,
    to: Annotated[Path | None, typer.Option(help="the folder to fill", show_default="weights.uri of the configuration")] = None,
    config: ConfigOption = "local",
) -> None:
    """Fetch model files from where they are published; goes on where it was broken off."""
    from musetalk.weights.download import download
    from musetalk.weights.folder import WeightsFolder

    settings = _config(config, {"weights": {"uri": str(to)}} if to else None)
    folder = WeightsFolder(settings.weights)
    for file in _weight_files(settings, names, purpose):
        _note(f"{file.name}: {file.description}; licence: {file.licence}")
        with _bar(desc=file.name, unit="B", unit_scale=True) as show:
            try:
                done = download(
                    folder, file, again=again, on_progress=show, on_wait=lambda: _note("waiting for another download of the same file ...")
                )
            except KeyboardInterrupt:
                _note("broken off; the same command goes on from here")
                raise
        if not done.fetched:
            typer.echo(f"{done.name}: there already")
        else:
            typer.echo(f"{done.name}: SHA-256 {done.sha256}, {'as published' if done.checked else 'recorded now, as none is published'}")


@weights_app.command("verify")
def verify_weights(names: NamesArgument = None, purpose: PurposeOption = None, config: ConfigOption = "local") -> None:
    """Compare sizes and SHA-256 sums, and read each file with the loader that the service uses; exit status 1 when something must be mended."""
    from musetalk.verify import skip_reason, verify
    from musetalk.weights.folder import FileState, WeightsFolder

    settings = _config(config)
    folder = WeightsFolder(settings.weights)
    wrong = 0
    for file in _weight_files(settings, names, purpose):
        with _bar(desc=file.name, unit="B", unit_scale=True) as show:
            verdict = verify(folder, file, show)
        state = verdict.status.state
        mark = "✗" if verdict.problem else "·" if state is FileState.MISSING else "✓"
        typer.echo(f"{mark} {verdict.status.name}: {state.value}{'; ' if verdict.problem else ''}{verdict.problem}")
        wrong += bool(verdict.problem)
    if reason := skip_reason(folder):
        _note(f"what is inside the files was not looked at: {reason}")
    if wrong:
        raise typer.Exit(1)


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


# --- shared --------------------------------------------------------------------------------------------------------------


def _config(source: str, overrides: dict[str, Any] | None = None) -> AppConfig:
    from configs.models import load_config

    return load_config(source, overrides)


def _store(settings: AppConfig) -> AvatarStore:
    from musetalk.avatars.stores import shipped_store

    return shipped_store(settings, settings.mux.avatar_cache_bytes, verify=True)


def _speech(text: str, voice: str, speed: float, language: str, settings: AppConfig) -> SpeechRequest:
    """Checked before anything is loaded."""
    from museserve.speech.request import parse_delivery, parse_speech

    return parse_speech(text, parse_delivery(voice, speed, language), settings.speech.max_text_chars)


def _weight_files(settings: AppConfig, names: list[str] | None, purpose: Purpose | None) -> tuple[WeightFile, ...]:
    from musetalk.weights.catalogue import BY_NAME, files_for

    unknown = [name for name in names or () if name not in BY_NAME]
    if unknown:
        raise RequestError(f"{', '.join(unknown)}: no such model file; known: {', '.join(BY_NAME)}")
    if names:
        return tuple(BY_NAME[name] for name in names)
    return files_for(purpose or settings.lipsync.musetalk.version)


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

    local = LocalPipeline(settings, cache=True, progress=in_lines(_note, PREPARING_SHIPPED))
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
        made = _call(url, key, "POST", "/v1/prerender", f"refused {text[:60]!r}", json={"texts": [text], **manner}).json()["data"][0]
        yield made["text"], made["cache"] != "miss", made["frames"]


def _call(url: str, key: str, method: str, path: str, what: str, **sent: Any) -> Any:
    """What a running service answers. Raises RequestError, which says `what` failed."""
    import httpx2

    try:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        answer = httpx2.request(method, f"{url.rstrip('/')}{path}", headers=headers, timeout=600, **sent)
    except httpx2.TransportError as error:
        raise RequestError(f"{url} cannot be reached: {error}") from None
    if answer.is_error:
        raise RequestError(f"{url}: {what}: {answer.json()['error']['message']}")
    return answer


def _check_output(output: Path) -> None:
    """Before any work is done."""
    if output.suffix.lower() != ".mp4":
        raise RequestError(f"{output}: the output is an mp4, so its name must end in .mp4")
    if not output.parent.is_dir():
        raise RequestError(f"{output}: the folder {output.parent} does not exist")


def _read(path: Path, max_bytes: int, key: str = "limits.max_body_bytes") -> bytes:
    """Raises OSError, RequestError."""
    size = path.stat().st_size
    if size > max_bytes:
        raise RequestError(f"{path} is {size:,} bytes; at most {max_bytes:,} are accepted ({key})")
    return path.read_bytes()


@contextmanager
def _bar(**style: Any) -> Iterator[Callable[..., None]]:
    """A bar on stderr, drawn only when somebody watches. `show(reached, total, step)` moves it.

    What was there at the first call does not count for its speed.
    """
    from tqdm import tqdm

    with tqdm(file=sys.stderr, disable=None, leave=False, **style) as bar:

        def show(reached: float, total: float | None, step: str = "") -> None:
            if not bar.n:
                bar.reset(total)
                bar.n = bar.initial = reached
            bar.total = total
            if step:
                bar.set_description_str(step, refresh=False)
            bar.update(reached - bar.n)

        yield show


def _ready(url: str, took_s: float, keys: bool) -> str:
    bearer = ' -H "Authorization: Bearer $MUSESERVE_KEY"' if keys else ""
    return f"""
museserve is ready after {took_s:.1f} s: open {url}/

  curl -sS {url}/v1/videos{bearer} -H 'Content-Type: application/json' -d '{{"text": "{EXAMPLE}"}}' -o out.mp4

Ctrl-C stops it."""


def _log_to_stderr(level: str, log_format: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    pattern = "%(asctime)s %(levelname)s %(name)s %(message)s"
    handler.setFormatter(_JsonFormatter() if log_format == "json" else logging.Formatter(pattern))
    logging.basicConfig(level=level, handlers=[handler])


class _JsonFormatter(logging.Formatter):
    """One JSON object a line, with the field names that Ray Serve's own JSON logs use."""

    def format(self, record: logging.LogRecord) -> str:
        import json

        fields = {"asctime": self.formatTime(record), "levelname": record.levelname, "name": record.name, "message": record.getMessage()}
        if record.exc_info:
            fields["exc_text"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


def _note(message: str) -> None:
    typer.echo(message, err=True)


if __name__ == "__main__":
    main()

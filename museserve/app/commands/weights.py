"""`museserve weights`: the model files of MuseTalk and of the voices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from museserve.app.commands.terminal import ConfigOption, bar, note, settings_of
from museserve.errors import RequestError

if TYPE_CHECKING:
    from configs.models import AppConfig
    from museserve.weights.catalogue import WeightFile

app = typer.Typer(help="List, download and verify model files: MuseTalk's, and natural voices.", no_args_is_help=True, rich_markup_mode=None)
Purpose = Literal["v15", "v1", "restore", "taesd", "voices", "all"]
PurposeOption = Annotated[
    Purpose | None,
    typer.Option(
        "--for", help="MuseTalk 1.5 or 1.0, GFPGAN's sharper faces, the small decoder; natural voices", show_default="the configured version"
    ),
]
AnyPurposeOption = Annotated[Purpose | None, typer.Option("--for", help="only those that this needs", show_default="all")]
NamesArgument = Annotated[list[str] | None, typer.Argument(metavar="[FILE]...", help="as `weights list` names them", show_default="all of --for")]


@app.command("list")
def list_weights(purpose: AnyPurposeOption = None, config: ConfigOption = "local") -> None:
    """Print every model file: whether it is there, its size, what needs it, its licence and where it comes from."""
    from museserve.weights.folder import WeightsFolder

    settings = settings_of(config)
    folder = WeightsFolder(settings.weights)
    typer.echo(f"in {folder.uri}:")
    for file in _weight_files(settings, None, purpose or "all"):
        status = folder.status(file)
        size = f"{file.bytes:,} bytes" if file.bytes else "size not published"
        other = f" as {status.name}" if status.name != file.name else ""
        typer.echo(f"{status.state.value:<13} {file.name}{other}: {file.description}, {size}")
        typer.echo(f"{'':<13} for {', '.join(file.needed_for)}{', can be left out' if file.optional else ''}; from {file.url}")
        typer.echo(f"{'':<13} licence: {file.licence}")


@app.command("download")
def download_weights(
    names: NamesArgument = None,
    purpose: PurposeOption = None,
    again: Annotated[bool, typer.Option("--again", help="fetch also what is there in its full size")] = False,
    to: Annotated[Path | None, typer.Option(help="the folder to fill", show_default="weights.uri of the configuration")] = None,
    config: ConfigOption = "local",
) -> None:
    """Fetch model files from where they are published; goes on where it was broken off."""
    from museserve.weights.download import download
    from museserve.weights.folder import WeightsFolder

    settings = settings_of(config, {"weights": {"uri": str(to)}} if to else None)
    folder = WeightsFolder(settings.weights)
    for file in _weight_files(settings, names, purpose):
        note(f"{file.name}: {file.description}; licence: {file.licence}")
        with bar(desc=file.name, unit="B", unit_scale=True) as show:
            try:
                done = download(
                    folder, file, again=again, on_progress=show, on_wait=lambda: note("waiting for another download of the same file ...")
                )
            except KeyboardInterrupt:
                note("broken off; the same command goes on from here")
                raise
        if not done.fetched:
            typer.echo(f"{done.name}: there already")
        else:
            typer.echo(f"{done.name}: SHA-256 {done.sha256}, {'as published' if done.checked else 'recorded now, as none is published'}")


@app.command("verify")
def verify_weights(names: NamesArgument = None, purpose: PurposeOption = None, config: ConfigOption = "local") -> None:
    """Compare sizes and SHA-256 sums, and read each file with the loader that the service uses; exit status 1 when something must be mended."""
    from museserve.weights.folder import FileState, WeightsFolder
    from musetalk.verify import skip_reason, verify

    settings = settings_of(config)
    folder = WeightsFolder(settings.weights)
    wrong = 0
    for file in _weight_files(settings, names, purpose):
        with bar(desc=file.name, unit="B", unit_scale=True) as show:
            verdict = verify(folder, file, show)
        state = verdict.status.state
        mark = "✗" if verdict.problem else "·" if state is FileState.MISSING else "✓"
        typer.echo(f"{mark} {verdict.status.name}: {state.value}{'; ' if verdict.problem else ''}{verdict.problem}")
        wrong += bool(verdict.problem)
    if (reason := skip_reason(folder)) and purpose != "voices":
        note(f"what is inside the files was not looked at: {reason}")
    if wrong:
        raise typer.Exit(1)


def _weight_files(settings: AppConfig, names: list[str] | None, purpose: Purpose | None) -> tuple[WeightFile, ...]:
    from museserve.weights.catalogue import BY_NAME, files_for

    unknown = [name for name in names or () if name not in BY_NAME]
    if unknown:
        raise RequestError(f"{', '.join(unknown)}: no such model file; known: {', '.join(BY_NAME)}")
    if names:
        return tuple(BY_NAME[name] for name in names)
    return files_for(purpose or settings.lipsync.musetalk.version)

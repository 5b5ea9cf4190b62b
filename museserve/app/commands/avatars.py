"""`museserve avatar`: avatars of the configured store."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from museserve.app.commands.terminal import ConfigOption, bar, note, read_file, settings_of, store_of

app = typer.Typer(help="Add, prepare, list and delete avatars.", no_args_is_help=True, rich_markup_mode=None)
Gender = Literal["female", "male"]


@app.command("add")
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
    settings = settings_of(config)
    data = read_file(source, settings.limits.max_clip_bytes, "limits.max_clip_bytes")

    import yaml

    from musetalk.avatars.from_portrait import check_request
    from musetalk.avatars.preparation import AvatarPreparation
    from musetalk.factory import load_face_networks

    chosen = avatar_id or re.sub("[^a-z0-9]", "-", source.stem.lower()).strip("-")[:64] or "avatar"
    check_request(chosen, gender)  # before anything is loaded
    networks, reason = load_face_networks(settings)
    preparation = AvatarPreparation(settings, store_of(settings), networks, reason)
    with bar(total=100, bar_format="{desc:<24} {percentage:3.0f} %|{bar}| {elapsed}") as show:
        meta = preparation.prepare(data, chosen, name, gender, progress=lambda step, done: show(100 * done, 100, step))
    found = {"id": meta.id, "version": meta.version, "engines": sorted(meta.engines), "report": meta.report}
    typer.echo(yaml.safe_dump(found, sort_keys=False, allow_unicode=True).rstrip())


@app.command("prepare")
def prepare_avatars(config: ConfigOption = "local") -> None:
    """Prepare the shipped avatars as a configuration wants them, and check all their files; those that are there already stay."""
    for meta in store_of(settings_of(config)).list():
        if meta.builtin:
            typer.echo(f"{meta.id}: version {meta.version}")


@app.command("list")
def list_avatars(config: ConfigOption = "local") -> None:
    """Print every avatar: id, name, gender, size, built in or added."""
    from musetalk.avatars.builtin import BUILTIN, shipped_facts
    from musetalk.avatars.stores import open_store

    known = open_store(settings_of(config).avatars).list()  # as it is: the service that uses it may have other settings
    for meta in known:
        typer.echo(f"{meta.id:<24} {meta.name:<24} {meta.gender:<7} {meta.size:>4} px  {'built in' if meta.builtin else 'added'}")
    for avatar_id in sorted(set(BUILTIN) - {meta.id for meta in known}):
        name, gender = shipped_facts(avatar_id)
        typer.echo(f"{avatar_id:<24} {name:<24} {gender:<7} {'':>4}     built in, prepared when it is first used")


@app.command("delete")
def delete_avatar(avatar_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)], config: ConfigOption = "local") -> None:
    """Delete an avatar that was added."""
    from musetalk.avatars.stores import open_store

    open_store(settings_of(config).avatars).delete(avatar_id)
    note(f"{avatar_id} is deleted")

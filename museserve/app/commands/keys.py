"""`museserve keys`: who may use a service that asks for keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from museserve.app.commands.terminal import ConfigOption, note, settings_of

app = typer.Typer(help="Make, list and revoke the keys of access.auth: keys.", no_args_is_help=True, rich_markup_mode=None)
KeysFileOption = Annotated[Path | None, typer.Option("--file", help="the keys' file", show_default="access.keys_file of the configuration")]


@app.command("create")
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

    path = file or settings_of(config).access.keys_path
    key, stored = create_key(path, tenant, scope or ["speak", "avatars"], days, name)
    typer.echo(key)
    note(f"{stored.id} of {tenant}, for {', '.join(sorted(stored.scopes))}, is kept in {path}; the older keys of {tenant} stay valid until revoked")


@app.command("list")
def list_keys(file: KeysFileOption = None, config: ConfigOption = "local") -> None:
    """Print every key: id, tenant, scopes, state, until when, what for. The keys themselves are not kept."""
    from museserve.access.keys import read_keys

    for key in read_keys(file or settings_of(config).access.keys_path).keys:
        until = key.expires.isoformat() if key.expires else "-"
        typer.echo(f"{key.id}  {key.tenant:<24} {','.join(sorted(key.scopes)):<24} {key.state:<8} {until:<26} {key.name}".rstrip())


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="as `keys list` prints it", show_default=False)],
    file: KeysFileOption = None,
    config: ConfigOption = "local",
) -> None:
    """Let a key in no more, nor the session tokens that were made with it. Its sessions end within seconds."""
    from museserve.access.keys import revoke_key

    stored = revoke_key(file or settings_of(config).access.keys_path, key_id)
    note(f"{stored.id} of {stored.tenant} is revoked")

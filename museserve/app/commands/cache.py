"""`museserve cache`: what is kept of spoken texts."""

from __future__ import annotations

from typing import Annotated

import typer

from museserve.app.commands.terminal import ConfigOption, call, note, settings_of

app = typer.Typer(help="Look after what is kept of spoken texts.", no_args_is_help=True, rich_markup_mode=None)


@app.command("clear")
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
        call(url, key, "DELETE", "/v1/cache", "the cache cannot be cleared")
        note(f"the cache of {url} is empty")
        return
    from museserve.runtime.blob_store import BlobStore

    cache = settings_of(config).cache
    BlobStore(cache.place, cache.max_bytes, own=not cache.uri).clear()
    note(f"{cache.place} is empty; a service that runs has some of it in memory for up to ten minutes, unless it is told by --url")

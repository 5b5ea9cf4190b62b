"""What the commands share: the configuration that is named, files that are read, and what is told on stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from museserve.errors import RequestError

if TYPE_CHECKING:
    from configs.models import AppConfig
    from musetalk.avatars.store import AvatarStore

CONFIG_HELP = "a YAML file, or the name of one that ships with the project"
ConfigOption = Annotated[str, typer.Option("--config", "-c", help=CONFIG_HELP)]


def settings_of(source: str, overrides: dict[str, Any] | None = None) -> AppConfig:
    from configs.models import load_config

    return load_config(source, overrides)


def store_of(settings: AppConfig) -> AvatarStore:
    from musetalk.avatars.stores import shipped_store

    return shipped_store(settings, settings.mux.avatar_cache_bytes, verify=True)


def read_file(path: Path, max_bytes: int, key: str = "limits.max_body_bytes") -> bytes:
    """Raises OSError, RequestError."""
    size = path.stat().st_size
    if size > max_bytes:
        raise RequestError(f"{path} is {size:,} bytes; at most {max_bytes:,} are accepted ({key})")
    return path.read_bytes()


@contextmanager
def bar(**style: Any) -> Iterator[Callable[..., None]]:
    """A bar on stderr, drawn only when somebody watches. `show(reached, total, step)` moves it.

    What was there at the first call does not count for its speed.
    """
    from tqdm import tqdm

    with tqdm(file=sys.stderr, disable=None, leave=False, **style) as shown:

        def show(reached: float, total: float | None, step: str = "") -> None:
            if not shown.n:
                shown.reset(total)
                shown.n = shown.initial = reached
            shown.total = total
            if step:
                shown.set_description_str(step, refresh=False)
            shown.update(reached - shown.n)

        yield show


def note(message: str) -> None:
    typer.echo(message, err=True)


def call(url: str, key: str, method: str, path: str, what: str, **sent: Any) -> Any:
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


def log_to_stderr(level: str, log_format: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    pattern = "%(asctime)s %(levelname)s %(name)s %(message)s"
    handler.setFormatter(_JsonFormatter() if log_format == "json" else logging.Formatter(pattern))
    logging.basicConfig(level=level, handlers=[handler])


class _JsonFormatter(logging.Formatter):
    """One JSON object a line, with the field names that Ray Serve's own JSON logs use."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {"asctime": self.formatTime(record), "levelname": record.levelname, "name": record.name, "message": record.getMessage()}
        if record.exc_info:
            fields["exc_text"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)

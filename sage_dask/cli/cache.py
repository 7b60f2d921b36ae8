"""``sage-dask cache``: look at the answers that are kept on this machine, and forget them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from sage_dask.cli.examples import example
from sage_dask.cli.streams import say
from sage_dask.endpoint.cache import MAX_BYTES, default_path
from sage_dask.endpoint.cache_file import CacheFile
from sage_dask.errors import SageError, counted

F = TypeVar("F", bound=Callable[..., Any])


@click.group(epilog=example("sage-dask cache show", "sage-dask cache clear"))
def cache() -> None:
    """Look at the answers of model servers that are kept on this machine, or forget them."""


def path_option(command: F) -> F:
    """Add the option that names another file to a command."""
    return click.option("--path", metavar="FILE", help="Another file than the user's own.")(command)


@cache.command(epilog=example("sage-dask cache show"))
@path_option
def show(path: str | None) -> None:
    """Print where answers are kept, how many there are, and how much room they take."""
    place = _place(path)
    say(f"response cache {place}")
    if not place.exists():
        say("  empty       it is made with the first answer")
        return
    with _opened(place) as file:
        facts = file.facts()
    say(f"  answers     {facts.num_entries:,}")
    say(f"  size        {facts.num_bytes / 2**20:,.1f} MiB; the oldest go before {_limit()}")
    if facts.first_used_s is not None:
        used = datetime.fromtimestamp(facts.first_used_s).astimezone()
        say(f"  oldest use  {used.isoformat(sep=' ', timespec='minutes')}")


@cache.command(epilog=example("sage-dask cache clear"))
@path_option
def clear(path: str | None) -> None:
    """Forget all answers; the next run pays for them again."""
    place = _place(path)
    num_entries = 0
    if place.exists():
        with _opened(place) as file:
            num_entries = file.clear()
    say(f"forgot {counted(num_entries, 'answer')} in {place}")


def _place(path: str | None) -> Path:
    return default_path() if path is None else Path(path)


def _limit() -> str:
    return f"{MAX_BYTES / 2**20:,.0f} MiB"


@contextmanager
def _opened(place: Path) -> Iterator[CacheFile]:
    """Lend a cache file, and tell what it can not do as an error of ours."""
    try:
        file = CacheFile(place, max_bytes=MAX_BYTES)
        try:
            yield file
        finally:
            file.close()
    except (OSError, sqlite3.Error) as error:
        raise SageError(
            f"response cache {str(place)!r} can not be used ({error}); wait for the runs that use "
            "it, or remove the file"
        ) from error

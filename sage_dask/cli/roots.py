"""The option that binds a YAML file of someone else's to some folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sage_dask.cli.target import find_pipeline
from sage_dask.errors import PlanError
from sage_dask.spec import Roots, Spec, read

F = TypeVar("F", bound=Callable[..., Any])


def root_option(command: F) -> F:
    """Add ``--root`` to a command, which gets its ``roots``: ``Roots``, or None without any.

    The variable is for batch systems, where one place sets it for every command.  A file has
    no say in this: it would not bind itself.
    """
    return click.option(
        "--root",
        "roots",
        type=click.Path(),
        multiple=True,
        envvar="SAGE_DASK_ROOTS",
        metavar="DIR",
        callback=_roots,
        help="For a YAML file of someone else's: refuse code in it, and paths that do not lie "
        "under DIR; may be given again.  Also SAGE_DASK_ROOTS=DIR:DIR.",
    )(command)


def pipeline_within(roots: Roots | None, target: str) -> Spec:
    """Return what a command line names as its pipeline, bound to roots if there are any.

    Raises:
        PlanError: There is no such pipeline, it leads out of the roots, or it is Python,
            which roots do not hold.
    """
    if roots is None:
        return find_pipeline(target)
    if ":" in target and not Path(target).exists():
        raise PlanError(
            f"{target!r} is Python, which roots do not hold; give a YAML file, or run it without "
            "--root (and SAGE_DASK_ROOTS) if you trust it"
        )
    return read(target, roots=roots)


def _roots(
    _context: click.Context, _option: click.Parameter, folders: tuple[str, ...]
) -> Roots | None:
    return Roots(folders) if folders else None

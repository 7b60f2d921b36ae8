"""Printing to those who may have stopped reading."""

from __future__ import annotations

import os
import sys
from typing import IO

import click

from sage_dask.errors import RunError


def say(text: str, *, err: bool = False) -> None:
    """Print a line; where nobody reads any more, as behind ``| head``, go on without.

    The work is done or goes on, and the exit code tells of that, not of the reader.

    Raises:
        RunError: A result can not be printed for another reason, such as a full disk.
    """
    try:
        click.echo(text, err=err)
    except OSError as error:
        _discard(sys.stderr if err else sys.stdout)
        if not err and not isinstance(error, BrokenPipeError):
            raise RunError(
                f"the result can not be printed ({error.strerror}), but the run itself is over; "
                "free space, and ask for it again with 'sage-dask report' if there is a run folder"
            ) from error


def _discard(stream: IO[str]) -> None:
    """Lead a broken stream nowhere: Python flushes it once more at its exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)

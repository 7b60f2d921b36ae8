"""``sage-dask why``: what happened to a task, and for what reasons."""

from __future__ import annotations

import click

from sage_dask.cli.examples import example
from sage_dask.cli.policy import control_at, scheduler_option
from sage_dask.cli.streams import say
from sage_dask.errors import RunError


@click.command(epilog=example("sage-dask why generate --scheduler tcp://head:8786"))
@click.argument("key")
@scheduler_option
def why(key: str, scheduler: str) -> None:
    """Print where the task KEY was placed and why, or what it waits for.

    A part of a key will do: the latest few tasks that have it in theirs are shown.
    """
    with control_at(scheduler) as control:
        stories = control.why(key)
    if not stories:
        raise RunError(
            f"no task with {key!r} in its key waits, and none is among the last that ran; the "
            "dashboard shows the keys there are"
        )
    for name, lines in stories:
        say("\n  ".join([name, *lines]))

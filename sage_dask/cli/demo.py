"""``sage-dask demo``: the whole system at work on this machine's own documentation."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import click

from sage_dask.cli.examples import example
from sage_dask.cli.exits import HELP, SOME_FAILED
from sage_dask.cli.streams import say
from sage_dask.progress import show_progress


@click.command(epilog=example("sage-dask demo --folder demo-output --questions 400") + HELP)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-output"),
    show_default=True,
    help="Where corpus, index and runs are kept.",
)
@click.option("--passages", type=click.IntRange(min=100), default=3000, show_default=True)
@click.option("--questions", type=click.IntRange(min=1), default=200, show_default=True)
@click.option("--nodes", type=click.IntRange(min=1), default=4, show_default=True)
def demo(folder: Path, passages: int, questions: int, nodes: int) -> None:
    """Index what Python documents about itself, and answer questions from it.

    The first run embeds the passages, which takes minutes; later runs only answer.
    """
    from sage_dask.demo.run import Demo, run_demo

    report = run_demo(
        Demo(folder, passages, questions, nodes),
        say=say,
        show_progress=partial(show_progress, sys.stderr, quiet=False),
    )
    if report.num_failed:
        click.get_current_context().exit(SOME_FAILED)

"""``sage-dask demo``: a RAG pipeline over Python's own documentation, from nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sage_dask.cli.examples import example
from sage_dask.cli.exits import HELP, SOME_FAILED
from sage_dask.progress import show_progress


@click.command(epilog=example("sage-dask demo --passages 500 --questions 20") + HELP)
@click.option(
    "--dir",
    "folder",
    default="demo-output",
    show_default=True,
    help="Folder for corpus, index, answers and report; what is there is used again.",
)
@click.option("--passages", type=click.IntRange(min=1), default=3000, show_default=True)
@click.option("--questions", type=click.IntRange(min=1), default=200, show_default=True)
@click.option("--nodes", type=click.IntRange(min=1), default=4, show_default=True)
def demo(folder: str, passages: int, questions: int, nodes: int) -> None:
    """Answer questions about Python from its documentation, on nodes of this machine.

    Corpus and index are made from what every Python installation carries; nothing is
    downloaded.
    """
    from sage_dask.demo.run import Demo, run_demo

    story = Demo(Path(folder), passages, questions, nodes)
    report = run_demo(story, click.echo, lambda: show_progress(sys.stderr))
    if report.num_failed:
        click.get_current_context().exit(SOME_FAILED)

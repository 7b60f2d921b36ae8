"""``sage-dask top``: all jobs of a cluster, as they go on."""

from __future__ import annotations

import sys
from functools import partial

import click

from sage_dask.cli.examples import example
from sage_dask.cli.policy import scheduler_option
from sage_dask.cli.streams import say

# Where nobody sees how wide the screen is, such as behind a pipe.
_WIDTH, _HEIGHT = 118, 1000


@click.command(
    epilog=example(
        "sage-dask top --scheduler tcp://head:8786",
        "sage-dask top --scheduler tcp://head:8786 --once",
    )
)
@scheduler_option
@click.option("--once", is_flag=True, help="Print the table once, instead of until Ctrl-C.")
def top(scheduler: str, once: bool) -> None:
    """Show all jobs of a cluster: how far they are, what holds them up, gates and servers.

    Twice a second until Ctrl-C; once where the output is no terminal.
    """
    from rich.console import Console

    from sage_dask.dashboard.asking import snapshot_of
    from sage_dask.dask_runner import client_of
    from sage_dask.progress.choosing import is_live
    from sage_dask.progress.cluster import overview_of, watch
    from sage_dask.progress.table import table
    from sage_dask.progress.terminal import Terminal

    with client_of(scheduler) as client:
        fetch = partial(snapshot_of, client)
        if not once and is_live(sys.stdout):
            watch(fetch, Terminal(Console(file=sys.stdout)))
            return
        width = Console(file=sys.stdout).width if sys.stdout.isatty() else _WIDTH
        for line in table(overview_of(fetch()), width, _HEIGHT):
            say(line.plain)

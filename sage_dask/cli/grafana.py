"""``sage-dask grafana``: the dashboard for Grafana."""

from __future__ import annotations

from importlib.resources import files

import click

from sage_dask.cli.examples import example
from sage_dask.cli.streams import say


@click.command(epilog=example("sage-dask grafana > grafana.json"))
def grafana() -> None:
    """Print a dashboard for Grafana 10 or newer, to be imported there.

    It shows what Prometheus scrapes from the schedulers' own /metrics.
    """
    say(files("sage_dask").joinpath("dashboard/grafana.json").read_text(encoding="utf-8").rstrip())

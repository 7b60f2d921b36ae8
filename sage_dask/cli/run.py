"""``sage-dask run``: run a pipeline, show how far it is, report what it cost.

With ``--dry-run`` it estimates that instead, and sends nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sage_dask.cli import exits
from sage_dask.cli.examples import example
from sage_dask.cli.executing import Request, execute, launch_of
from sage_dask.cli.output import print_json
from sage_dask.cli.roots import pipeline_within, root_option
from sage_dask.cli.run_options import run_options, to_keep
from sage_dask.cli.streams import say
from sage_dask.errors import PlanError
from sage_dask.estimate import SAMPLE, estimate
from sage_dask.forecast import Pace
from sage_dask.spec import Roots


@click.command(
    epilog=example(
        "sage-dask run rag.yaml --nodes 4 --threads 2 --run-dir runs/rag",
        "sage-dask run rag.yaml --run-dir runs/rag --retry-failed",
    )
    + exits.HELP
)
@click.argument("pipeline")
@click.option(
    "--run-dir",
    metavar="DIR",
    help="Folder of the run.  Run again with it, or 'sage-dask resume DIR', goes on.",
)
@click.option(
    "--durable/--no-durable",
    default=True,
    help="With --run-dir: keep what is done there, so that a killed run goes on (default).",
)
@run_options
@root_option
@click.option("--dry-run", is_flag=True, help="Estimate requests, tokens and cost; send nothing.")
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    help=f"Records that a dry run looks at, from the first on; {SAMPLE} unless given.",
)
@click.option("--rate", type=float, help="Tokens per second, for a dry run's time.")
@click.option("--seats", type=int, help="Requests answered at once, for a dry run's time.")
@click.option("--latency", type=float, help="Seconds per request, beside --seats.")
def run(
    pipeline: str,
    run_dir: str | None,
    durable: bool,
    roots: Roots | None,
    dry_run: bool,
    sample: int | None,
    rate: float | None,
    seats: int | None,
    latency: float | None,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Run PIPELINE: a YAML file, module:name, or file.py:name.

    Options override the file's 'run' section.  Paths in the file are relative to the current
    directory.  Modules beside the file travel to the workers; all others must be installed there.
    """
    spec = pipeline_within(roots, pipeline)
    pace = _pace(dry_run, sample, rate, seats, latency)
    folder = None if run_dir is None else Path(run_dir)
    launch = None if run_dir is None else launch_of(pipeline, run_dir, to_keep(given, roots))
    request = Request(spec, given, folder, durable=durable, launch=launch, quiet=quiet)
    if dry_run:
        _estimate(request, sample or SAMPLE, pace, as_json=as_json)
    else:
        execute(request, as_json=as_json)


def _estimate(request: Request, sample: int, pace: Pace, *, as_json: bool) -> None:
    with exits.nothing_spent():
        found = estimate(request.plan(), sample=sample, pace=pace)
    print_json(found.as_dict()) if as_json else say(str(found))


def _pace(
    dry_run: bool,
    sample: int | None,
    rate: float | None,
    seats: int | None,
    latency: float | None,
) -> Pace:
    """Return what is known of the servers' pace; refuse it where nobody would look at it."""
    given = {"--sample": sample, "--rate": rate, "--seats": seats, "--latency": latency}
    said = [name for name, value in given.items() if value is not None]
    if said and not dry_run:
        raise PlanError(f"{', '.join(said)} given, but only --dry-run looks at that; add it")
    return Pace(rate, seats, latency)

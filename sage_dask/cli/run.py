"""``sage-dask run``: run a pipeline, show how far it is, report what it cost.

With ``--dry-run`` it estimates that instead, and sends nothing.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from sage_dask.budget import Budget
from sage_dask.cli import exits
from sage_dask.cli.amounts import Amount
from sage_dask.cli.examples import example
from sage_dask.cli.machines import chosen, describe_machines, machines, node_options, planning
from sage_dask.cli.output import failed_file, note, print_json, print_report
from sage_dask.cli.streams import say
from sage_dask.cli.target import find_pipeline
from sage_dask.errors import PlanError, counted
from sage_dask.estimate import SAMPLE, estimate
from sage_dask.events import BUDGET
from sage_dask.forecast import Pace
from sage_dask.pipeline import Pipeline
from sage_dask.progress import show_progress
from sage_dask.report import Report
from sage_dask.spec import RunDefaults


@click.command(
    epilog=example("sage-dask run rag.yaml --nodes 4 --threads 2 --run-dir runs/rag") + exits.HELP
)
@click.argument("pipeline")
@node_options
@click.option("--scheduler", metavar="ADDRESS", help="Run on a Dask cluster that is there.")
@click.option("--run-dir", metavar="DIR", help="Folder for the run's events; must be new.")
@click.option("--policy", help="How tasks are placed: spread, pack, fifo, ..., or dask.")
@click.option(
    "--gate",
    "gates",
    type=Amount(int),
    multiple=True,
    help="Slots of a cluster-wide gate, such as llm=32; may be given again.",
)
@click.option("--priority", type=float, help="Of the whole job; higher runs first.")
@click.option("--weight", type=float, help="Share of the cluster among jobs; 1 is everyone's.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help="Records that travel together; measured where it is not given.",
)
@click.option(
    "--ordered/--as-completed",
    default=None,
    help="Write in the order of reading (default), or batches as they complete.",
)
@click.option(
    "--target-task-ms",
    type=click.FloatRange(min=0, min_open=True),
    help="Busy milliseconds that tasks are steered to.",
)
@click.option(
    "--max-cost",
    type=click.FloatRange(min=0, min_open=True),
    help="Stop in good order once this is spent, in the currency of the stages' prices.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    help="Stop in good order after this many tokens, prompts and answers together.",
)
@click.option("--dry-run", is_flag=True, help="Estimate requests, tokens and cost; send nothing.")
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    help=f"Records that a dry run looks at, from the first on; {SAMPLE} unless given.",
)
@click.option("--rate", type=float, help="Tokens per second, for a dry run's time.")
@click.option("--seats", type=int, help="Requests answered at once, for a dry run's time.")
@click.option("--latency", type=float, help="Seconds per request, beside --seats.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--quiet", is_flag=True, help="Print errors only, and what --json asks for.")
def run(
    pipeline: str,
    scheduler: str | None,
    run_dir: str | None,
    target_task_ms: float | None,
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
    spec = find_pipeline(pipeline)
    if target_task_ms is not None:
        given["target_task_s"] = target_task_ms / 1000
    options = _options(spec.run, given, scheduler)
    pace = _pace(dry_run, sample, rate, seats, latency)
    with exits.nothing_spent():
        # Before nodes are started: that takes seconds, and a mistake should not cost them.
        plan = spec.pipeline.plan(**planning(options))
        Budget(options.max_cost, options.max_tokens).check(spec.pipeline.stages)
        if dry_run:
            found = estimate(plan, sample=sample or SAMPLE, pace=pace)
            print_json(found.as_dict()) if as_json else say(str(found))
            return
    report = _run(spec.pipeline, options, scheduler, run_dir, quiet)
    print_report(report, as_json=as_json, quiet=quiet)
    _tell_failures(spec.pipeline, report)
    if report.outcome == BUDGET:
        note(f"stopped: {report.message}")
        click.get_current_context().exit(exits.BUDGET)
    if report.num_failed:
        click.get_current_context().exit(exits.SOME_FAILED)


def _tell_failures(pipeline: Pipeline, report: Report) -> None:
    if report.num_failed:
        place = failed_file(pipeline.output)
        where = f"; see '{place}'" if place is not None else ""
        note(f"failed: {counted(report.num_failed, 'record')}{where}")


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


def _options(defaults: RunDefaults, given: dict[str, Any], scheduler: str | None) -> RunDefaults:
    if scheduler is None:
        return chosen(defaults, given)
    if given["nodes"] or given["threads"] or given["resources"]:
        raise PlanError(
            f"--scheduler {scheduler} names a cluster that is there, and --nodes, --threads and "
            "--resources describe one to start; give one or the other"
        )
    return chosen(replace(defaults, nodes=None, threads=None, resources=None), given)


def _run(
    pipeline: Pipeline,
    options: RunDefaults,
    scheduler: str | None,
    run_dir: str | None,
    quiet: bool,
) -> Report:
    with machines(pipeline, options, scheduler) as on:
        source, sink = pipeline.input, pipeline.output
        if source is not None and sink is not None:
            note(f"{pipeline.name}: {source.name} -> {sink.name}", quiet=quiet)
        kept = f"; run folder {Path(run_dir)}" if run_dir is not None else ""
        note(f"{describe_machines(options, on)}{kept}", quiet=quiet)
        with show_progress(sys.stderr, quiet=quiet) as progress:
            return pipeline.run(
                on,
                ordered=options.ordered is not False,
                run_dir=run_dir,
                observer=progress,
                **_spending(options),
                **planning(options),
            )


def _spending(options: RunDefaults) -> dict[str, Any]:
    """Return what the run may spend; what is not said is left to the pipeline."""
    limits = {"max_cost": options.max_cost, "max_tokens": options.max_tokens}
    return {name: limit for name, limit in limits.items() if limit is not None}

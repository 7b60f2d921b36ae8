"""``sage-dask doctor``: what a run depends on, whether it is well, and what to do if not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sage_dask.cli import exits
from sage_dask.cli.examples import example
from sage_dask.cli.output import print_json
from sage_dask.cli.roots import pipeline_within, root_option
from sage_dask.cli.streams import say
from sage_dask.spec import Roots

if TYPE_CHECKING:
    from sage_dask.doctor.examination import Subject
    from sage_dask.doctor.finding import Finding

_MARK_WIDTH = 5


@click.command(
    epilog=example(
        "sage-dask doctor",
        "sage-dask doctor --scheduler tcp://head:8786 --pipeline rag.yaml --run-dir runs/rag",
        "sage-dask doctor --endpoint http://gpu-0:8000/v1",
    )
    + "Exits with 1 if anything is marked fail, else with 0."
)
@click.option("--scheduler", metavar="ADDRESS", help="Examine this cluster; or its scheduler file.")
@click.option(
    "--endpoint",
    "endpoints",
    metavar="URL",
    multiple=True,
    help="Ask this model server, from here and from workers; may be given again.",
)
@click.option(
    "--pipeline", metavar="PIPELINE", help="Whether it can be run, with the servers it asks."
)
@root_option
@click.option("--run-dir", metavar="DIR", help="Whether a run can keep its journal there.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def doctor(
    scheduler: str | None,
    endpoints: tuple[str, ...],
    pipeline: str | None,
    roots: Roots | None,
    run_dir: str | None,
    as_json: bool,
) -> None:
    """Examine what a run depends on, and say what to do about whatever is not well.

    This machine always; a cluster, model servers, a pipeline and a run's folder where they are
    named.  Nothing is changed or started.
    """
    from sage_dask.cli.reconnect import without_tracebacks
    from sage_dask.doctor.examination import examine
    from sage_dask.doctor.finding import Mark, count_marks, summary

    subject = _subject(scheduler, endpoints, pipeline, roots, run_dir)
    with without_tracebacks():
        findings = examine(subject)
    counts = count_marks(findings)
    if as_json:
        print_json({"findings": [asdict(each) for each in findings], "counts": counts})
    else:
        say("\n".join([*lines_of(findings), summary(findings)]))
    if counts[Mark.FAIL]:
        click.get_current_context().exit(exits.RUN)


def _subject(
    scheduler: str | None,
    endpoints: Sequence[str],
    pipeline: str | None,
    roots: Roots | None,
    run_dir: str | None,
) -> Subject:
    """Return what is to be examined.

    Raises:
        PlanError: A URL is none, or there is no such pipeline.
        RunError: The scheduler's file can not be read.
    """
    from sage_dask.cli.executing import Request
    from sage_dask.cli.machines import PlannedNodes, planning
    from sage_dask.cli.reconnect import address_of
    from sage_dask.doctor.examination import Subject
    from sage_dask.endpoint.address import check_endpoint

    subject = Subject(
        scheduler=None if scheduler is None else address_of(scheduler),
        endpoints=[check_endpoint(each, needed_by="--endpoint") for each in endpoints],
        run_dir=None if run_dir is None else Path(run_dir),
    )
    if pipeline is None:
        return subject
    spec = pipeline_within(roots, pipeline)
    options = Request(spec, {"scheduler": scheduler}).options
    return replace(
        subject,
        pipeline=spec.pipeline,
        plan=lambda: spec.pipeline.plan(PlannedNodes(options), **planning(options)),
        gates=options.gates or {},
    )


def lines_of(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield a line per finding, and one more that says what to do where it is not well."""
    width = max((len(each.what) for each in findings if len(each.what) <= 20), default=0)
    for each in findings:
        yield f"{each.mark:<{_MARK_WIDTH}} {each.what:<{width}}  {each.value}"
        if each.advice:
            yield f"{'':<{_MARK_WIDTH}}   {each.advice}"

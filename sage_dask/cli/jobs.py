"""``sage-dask jobs``: see the jobs of a cluster, and pause, resume or cancel one of them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from sage_dask.cli.examples import example
from sage_dask.cli.output import note, print_json
from sage_dask.cli.policy import scheduler_option
from sage_dask.cli.streams import say
from sage_dask.errors import PlanError, listed

if TYPE_CHECKING:
    from sage_dask.dashboard.board import JobView
    from sage_dask.scheduling.on_dask.control import SchedulerControl


@click.group(
    epilog=example(
        "sage-dask jobs list --scheduler tcp://head:8786",
        "sage-dask jobs pause rag --scheduler tcp://head:8786",
        "sage-dask jobs resume rag/1a2b3c4d --scheduler tcp://head:8786",
        "sage-dask jobs cancel 1a2b --scheduler tcp://head:8786",
    )
)
def jobs() -> None:
    """See the jobs of a cluster; pause, resume or cancel one of them.

    A job is called PIPELINE/ID; any part of that which no other job has will do.
    """


@jobs.command("list")
@scheduler_option
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def list_jobs(scheduler: str, as_json: bool) -> None:
    """Print the jobs that run, and the last that ended."""
    with _cluster(scheduler) as (_, views):
        pass
    if as_json:
        print_json([_plain(view) for view in views])
    elif views:
        say("\n".join(_line(view) for view in views))
    else:
        note(f"{scheduler}: no job runs, and none has")


@jobs.command("pause")
@click.argument("name")
@scheduler_option
def pause(name: str, scheduler: str) -> None:
    """Have job NAME start no task until it is resumed; tasks that run are finished."""
    with _cluster(scheduler) as (control, views):
        job = job_named(name, views)
        control.pause(job)
    again = f"sage-dask jobs resume {shlex.quote(job)} --scheduler {shlex.quote(scheduler)}"
    note(f"{scheduler}: {job!r} is paused; go on with: {again}")


@jobs.command("resume")
@click.argument("name")
@scheduler_option
def resume(name: str, scheduler: str) -> None:
    """Have the paused job NAME go on; to go on with a run that ended, see sage-dask resume."""
    with _cluster(scheduler) as (control, views):
        job = job_named(name, views)
        control.resume(job)
    note(f"{scheduler}: {job!r} goes on")


@jobs.command("cancel")
@click.argument("name")
@scheduler_option
def cancel(name: str, scheduler: str) -> None:
    """End job NAME at once; what is done is kept, and a run with a folder may be resumed."""
    with _cluster(scheduler) as (control, views):
        job = job_named(name, views)
        control.cancel(job)
    note(f"{scheduler}: {job!r} is told to end")


def job_named(part: str, views: Sequence[JobView]) -> str:
    """Return the full name of the one job that has not ended and has ``part`` in its name.

    Raises:
        PlanError: No job has, or several have.
    """
    names = [view.name for view in views if not view.is_over]
    found = [name for name in names if name == part] or [name for name in names if part in name]
    if len(found) == 1:
        return found[0]
    if not found:
        raise PlanError(f"no job that runs has {part!r} in its name; there are {listed(names)}")
    raise PlanError(f"{part!r} could be any of {listed(found)}; say more of the name")


@contextmanager
def _cluster(scheduler: str) -> Iterator[tuple[SchedulerControl, Sequence[JobView]]]:
    """Lend the control of a cluster, and its jobs."""
    from sage_dask.dashboard.asking import snapshot_of
    from sage_dask.dask_runner import client_of
    from sage_dask.scheduling.on_dask.control import SchedulerControl

    with client_of(scheduler) as client:
        yield SchedulerControl(client), snapshot_of(client).jobs


def _line(view: JobView) -> str:
    progress = view.progress
    of = f"/{progress.expected:,}" if progress.expected is not None else ""
    parts = [f"{view.name}  {view.state}  {progress.num_read:,}{of} records"]
    if progress.num_failed:
        parts.append(f"{progress.num_failed:,} failed")
    if not view.is_over:
        parts.append(f"{view.rate:,.1f}/s")
    if view.eta_s is not None:
        parts.append(f"{view.eta_s:,.0f} s to go")
    return "\n    ".join([", ".join(parts), *progress.notes])


def _plain(view: JobView) -> dict[str, Any]:
    progress = view.progress
    return {
        "name": view.name,
        "state": view.state,
        "num_read": progress.num_read,
        "num_written": progress.num_written,
        "num_failed": progress.num_failed,
        "num_filtered": progress.num_filtered,
        "expected": progress.expected,
        "elapsed_s": progress.elapsed_s,
        "rate_per_s": view.rate,
        "eta_s": view.eta_s,
        "tokens": progress.tokens,
        "cost": progress.cost,
        "heard_s": view.heard_s,
        "notes": list(progress.notes),
    }

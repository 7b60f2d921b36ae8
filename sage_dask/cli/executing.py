"""From a command line to a run, its report and its exit code: what ``run`` and ``resume`` share."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from sage_dask.budget import Budget
from sage_dask.cli import exits
from sage_dask.cli.durability import check_folder, refuse_without_journal
from sage_dask.cli.group import what_was_typed
from sage_dask.cli.machines import chosen, describe_machines, machines, planning
from sage_dask.cli.output import failed_file, note, print_report
from sage_dask.cli.reconnect import (
    address_of,
    await_scheduler,
    reconnecting,
    without_tracebacks,
)
from sage_dask.errors import PlanError, counted
from sage_dask.events import BUDGET
from sage_dask.launch import Launch, launched
from sage_dask.pipeline import Pipeline
from sage_dask.plan import Plan
from sage_dask.progress import show_progress
from sage_dask.report import Report
from sage_dask.spec import RunDefaults, Spec

_OF_NODES = ("nodes", "threads", "resources")


@dataclass(frozen=True, slots=True)
class Request:
    """A run, as a command line asks for it.

    Raises:
        PlanError: Options contradict each other.
    """

    spec: Spec
    given: Mapping[str, Any]
    """What options say, by name; None or nothing where they are silent."""
    run_dir: Path | None = None
    durable: bool = True
    launch: Launch | None = None
    """How it is started again; None where nothing is kept for that."""
    quiet: bool = False

    def __post_init__(self) -> None:
        if self.scheduler is not None and any(self.given.get(name) for name in _OF_NODES):
            raise PlanError(
                f"--scheduler {self.scheduler} names a cluster that is there, and --nodes, "
                "--threads and --resources describe one to start; give one or the other"
            )
        if self.given.get("reconnect") and self.scheduler is None:
            raise PlanError(
                "--reconnect is about a scheduler that comes back, and there is none; give its "
                "address as --scheduler"
            )
        if self.run_dir is None or not self.durable:
            refuse_without_journal(self.given)

    @property
    def scheduler(self) -> str | None:
        """Address or file of the cluster that is there, if any."""
        return self.given.get("scheduler")

    @property
    def options(self) -> RunDefaults:
        """What holds: the options, and the file's ``run`` section where they are silent."""
        defaults = self.spec.run
        if self.scheduler is not None:
            defaults = replace(defaults, **dict.fromkeys(_OF_NODES))
        names = [each.name for each in fields(RunDefaults)]
        return chosen(defaults, {name: self.given[name] for name in names if name in self.given})

    def plan(self) -> Plan:
        """Return what would run.

        Raises:
            PlanError: It can not, or the run folder is of another pipeline.
        """
        pipeline, options = self.spec.pipeline, self.options
        plan = pipeline.plan(**planning(options))
        Budget(options.max_cost, options.max_tokens).check(pipeline.stages)
        return plan


def launch_of(
    pipeline: str, run_dir: str, options: Mapping[str, Any], *, folder: Path | None = None
) -> Launch:
    """Return how a run is started again.

    Args:
        pipeline: As the command line named it.
        run_dir: As typed where the run is started.
        options: What was said.
        folder: Which relative paths are meant from; None for the present one.
    """
    command = f"sage-dask resume {shlex.quote(run_dir)}"
    return Launch(pipeline, str(folder or Path.cwd()), options, command, what_was_typed())


def execute(request: Request, *, as_json: bool) -> None:
    """Run, print the report, and exit with what it came to."""
    with exits.nothing_spent():
        # Before nodes are started: that takes seconds, and a mistake should not cost them.
        plan = request.plan()
    if request.durable and request.run_dir is not None:
        check_folder(request.run_dir, plan, request.given["accept_changes"])
    pipeline = request.spec.pipeline
    report = _run(request)
    print_report(report, as_json=as_json, quiet=request.quiet)
    _tell_failures(pipeline, report)
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


def _run(request: Request) -> Report:
    scheduler = request.scheduler
    if scheduler is None:
        with machines(request.spec.pipeline, request.options) as on:
            return _start(request, on)
    with without_tracebacks():
        if request.given.get("reconnect"):
            return _run_reconnecting(request, scheduler)
        return _start(request, address_of(scheduler))


def _run_reconnecting(request: Request, scheduler: str) -> Report:
    # What it takes back, it takes back once: what has failed since has had its try.
    again = replace(request, given={**request.given, "retry_failed": None})

    def start(num_lost: int) -> Report:
        return _start(again if num_lost else request, address_of(scheduler))

    say = partial(note, quiet=request.quiet)
    return reconnecting(start, wait=partial(await_scheduler, scheduler, say=say))


def _start(request: Request, on: Any) -> Report:
    options, quiet = request.options, request.quiet
    _announce(request, on)
    with show_progress(quiet=quiet) as progress, launched(request.launch):
        return request.spec.pipeline.run(
            on,
            ordered=options.ordered is not False,
            run_dir=request.run_dir,
            observer=progress,
            **_durability(request),
            **_limits(options),
            **planning(options),
        )


def _announce(request: Request, on: Any) -> None:
    pipeline, quiet = request.spec.pipeline, request.quiet
    if pipeline.input is not None and pipeline.output is not None:
        note(f"{pipeline.name}: {pipeline.input.name} -> {pipeline.output.name}", quiet=quiet)
    kept = f"; run folder {request.run_dir}" if request.run_dir is not None else ""
    note(f"{describe_machines(request.options, on)}{kept}", quiet=quiet)
    if request.run_dir is None:
        note("without --run-dir: should the run be killed, it can not go on", quiet=quiet)


def _durability(request: Request) -> dict[str, Any]:
    """Return what is said of the run's journal; what is not said is left to the pipeline."""
    names = ("retry_failed", "accept_changes", "extend", "follow")
    said = {name: request.given[name] for name in names if request.given.get(name)}
    return said if request.durable else {**said, "durable": False}


def _limits(options: RunDefaults) -> dict[str, Any]:
    """Return what ends the run early; what is not said is left to the pipeline."""
    names = ("max_cost", "max_tokens", "max_errors", "max_stall_s")
    return {name: limit for name in names if (limit := getattr(options, name)) is not None}

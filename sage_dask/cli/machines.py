"""Where a command runs: options, their defaults from the file, and the nodes themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import click

from sage_dask.cli.amounts import Amount
from sage_dask.errors import PlanError, counted
from sage_dask.options import RunOptions
from sage_dask.pipeline import Pipeline
from sage_dask.plan import Plan
from sage_dask.report import Report
from sage_dask.spec import RunDefaults

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--nodes",
        type=click.IntRange(min=1),
        help="Nodes to start on this machine; without them it runs in this process.",
    ),
    click.option(
        "--threads", type=click.IntRange(min=1), help="Tasks that one node runs at a time."
    ),
    click.option(
        "--resources",
        type=Amount(float),
        multiple=True,
        help="What each node supplies, such as LLM=4; may be given again.",
    ),
)


def node_options(command: F) -> F:
    """Add the options that describe nodes to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def chosen(defaults: RunDefaults, given: Mapping[str, Any]) -> RunDefaults:
    """Return the file's defaults with what the command line says in their place.

    Raises:
        PlanError: Options contradict each other.
    """
    said = {name: value for name, value in given.items() if value is not None}
    for name in ("resources", "gates"):
        said[name] = dict(given.get(name, ())) or getattr(defaults, name)
    run = replace(defaults, **said)
    for name in ("threads", "resources"):
        if run.nodes is None and getattr(run, name):
            raise PlanError(
                f"{name} describe nodes, but there are none; add --nodes, or nodes: in run"
            )
    return run


@contextmanager
def machines(pipeline: Pipeline, run: RunDefaults, scheduler: str | None = None) -> Iterator[Any]:
    """Lend what a pipeline runs on: nodes, a scheduler's address, or nothing."""
    if scheduler is not None or run.nodes is None:
        yield scheduler
        return
    from sage_dask.cluster import LocalNodes

    with LocalNodes(
        run.nodes,
        threads=run.threads or 1,
        resources=run.resources,
        preload=pipeline.imports,
    ) as nodes:
        yield nodes


def describe_machines(run: RunDefaults, on: Any) -> str:
    """Return in one phrase where a pipeline is about to run."""
    if on is None:
        return "in this process"
    if isinstance(on, str):
        return f"on the cluster at {on}"
    link = f"; dashboard {on.pipelines_link}" if on.pipelines_link else ""
    return f"on {counted(run.nodes, 'node')} with {counted(run.threads or 1, 'thread')} each{link}"


class PlannedNodes:
    """Nodes that are not started: a plan is checked against them, and nothing runs."""

    def __init__(self, run: RunDefaults) -> None:
        self._supply = [dict(run.resources or {})] * (run.nodes or 0)
        self._gates = dict(run.gates or {})

    def worker_resources(self) -> list[dict[str, float]] | None:
        """Return what each node would supply; None without nodes."""
        return self._supply or None

    def gates(self) -> dict[str, int] | None:
        """Return the gates that a run would find; None without nodes."""
        return self._gates if self._supply else None

    def run(self, plan: Plan, options: RunOptions) -> Report:
        """Refuse: there is nothing to run on."""
        raise PlanError(f"pipeline {plan.pipeline!r}: these nodes are only planned; start them")


def planning(options: RunDefaults) -> dict[str, Any]:
    """Return what both planning and running are told; what is not said is left to them."""
    names = (
        "policy",
        "gates",
        "priority",
        "weight",
        "quota",
        "record_priority",
        "batch_size",
        "target_task_s",
    )
    return {name: value for name in names if (value := getattr(options, name)) is not None}

"""``sage-dask policy``: see and change how a cluster places tasks, while jobs run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sage_dask.cli.amounts import Amount
from sage_dask.cli.examples import example
from sage_dask.cli.output import note, print_json
from sage_dask.cli.streams import say
from sage_dask.errors import counted

if TYPE_CHECKING:
    from sage_dask.scheduling.on_dask.control import SchedulerControl
    from sage_dask.scheduling.statistics import DispatcherStatistics

F = TypeVar("F", bound=Callable[..., Any])


def scheduler_option(command: F) -> F:
    """Add the option that names a cluster."""
    return click.option(
        "--scheduler", required=True, metavar="ADDRESS", help="The Dask scheduler of the cluster."
    )(command)


@contextmanager
def control_at(scheduler: str) -> Iterator[SchedulerControl]:
    """Lend the control of a cluster's dispatcher."""
    from sage_dask.dask_runner import client_of
    from sage_dask.scheduling.on_dask.control import SchedulerControl

    with client_of(scheduler) as client:
        yield SchedulerControl(client)


@click.group(
    epilog=example(
        "sage-dask policy show --scheduler tcp://head:8786",
        "sage-dask policy set pack --scheduler tcp://head:8786 --with target_wait_s=1",
        "sage-dask policy gate llm 32 --scheduler tcp://head:8786",
        "sage-dask policy weight rag 2 --scheduler tcp://head:8786",
    )
)
def policy() -> None:
    """See and change how a cluster places tasks, while jobs run."""


@policy.command("show")
@scheduler_option
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def show(scheduler: str, as_json: bool) -> None:
    """Print the policy, what waits, gates, jobs and nodes."""
    from dataclasses import asdict

    with control_at(scheduler) as control:
        statistics = control.statistics()
    if as_json:
        print_json(asdict(statistics))
    else:
        say("\n".join(_lines(statistics)))


@policy.command("set")
@click.argument("name")
@click.option(
    "--with",
    "parameters",
    type=Amount(float),
    multiple=True,
    help="A parameter of the policy, such as target_wait_s=1; may be given again.",
)
@click.option("--place", help="With priority: the policy that chooses the node.")
@click.option(
    "--on-error",
    type=click.Choice(["fail", "fallback"]),
    help="When a policy does wrong: fail the runs, or go on with fifo.",
)
@scheduler_option
def set_policy(
    name: str,
    parameters: tuple[tuple[str, float], ...],
    place: str | None,
    on_error: Any,
    scheduler: str,
) -> None:
    """Have policy NAME decide; what waits follows it at once."""
    chosen: dict[str, Any] = dict(parameters)
    if place is not None:
        chosen["place"] = place
    with control_at(scheduler) as control:
        control.start()
        control.set_policy(name, on_policy_error=on_error, **chosen)
        note(f"{scheduler}: tasks are placed by {control.policy!r} from now on")


@policy.command("gate")
@click.argument("name")
@click.argument("slots")
@scheduler_option
def gate(name: str, slots: str, scheduler: str) -> None:
    """Give gate NAME so many SLOTS; 0 closes it, "none" takes the limit away.

    The gate of a model server bears its URL; with "none" it finds its own limit.
    """
    try:
        limit = None if slots == "none" else float(slots)
    except ValueError as error:
        raise click.BadParameter(f"{slots!r} is neither a number nor 'none'") from error
    with control_at(scheduler) as control:
        control.start()
        control.set_gate(name, limit)
    note(f"{scheduler}: gate {name!r} has {'no limit' if limit is None else f'{limit:g} slots'}")


@policy.command("weight")
@click.argument("job")
@click.argument("weight", type=float)
@scheduler_option
def weight(job: str, weight: float, scheduler: str) -> None:
    """Give JOB, or each job of the pipeline JOB, the share WEIGHT; everyone's is 1."""
    with control_at(scheduler) as control:
        control.start()
        control.set_weight(job, weight)
    note(f"{scheduler}: {job!r} has weight {weight:g}")


@policy.command("quota")
@click.argument("job")
@click.argument("amounts", nargs=-1, type=Amount(float))
@scheduler_option
def quota(job: str, amounts: tuple[tuple[str, float], ...], scheduler: str) -> None:
    """Let JOB, or each job of the pipeline JOB, hold at most NAME=AMOUNT...; nothing ends that."""
    with control_at(scheduler) as control:
        control.start()
        control.set_quota(job, dict(amounts))
    said = ", ".join(f"{name}={amount:g}" for name, amount in amounts) or "no quota"
    note(f"{scheduler}: {job!r} has {said}")


def _lines(statistics: DispatcherStatistics) -> Iterator[str]:
    yield f"policy   {statistics.policy}"
    yield (
        f"tasks    {statistics.num_queued:,} waiting, {statistics.num_running:,} running, "
        f"{statistics.num_abandoned:,} cancelled and still running"
    )
    made = ", ".join(f"{count:,} by {name}" for name, count in statistics.decisions.items())
    yield f"starts   {made or 'none yet'}"
    if statistics.num_policy_errors:
        yield f"errors   {counted(statistics.num_policy_errors, 'error')} of policies"
    for name, gate in statistics.gates.items():
        limit = "no limit" if gate.limit is None else f"{gate.limit:g} slots"
        yield f"gate     {name}: {gate.held:g} held, {limit}"
    for name, server in statistics.servers.items():
        down = "" if server.down_s is None else f", down for {server.down_s:.0f} s"
        yield (
            f"server   {name}: {server.in_flight} of {counted(server.limit, 'request')} under way "
            f"({server.reason}){down}"
        )
    for name, job in statistics.jobs.items():
        yield (
            f"job      {name}: weight {job.weight:g}, {job.num_queued:,} waiting, "
            f"{job.num_running:,} running, {job.served_s:.1f} s of work given"
        )
    for name, node in sorted(statistics.nodes.items()):
        idle = "" if node.idle_s is None else f", idle for {node.idle_s:.0f} s"
        slow = "" if node.slowdown == 1 else f", {node.slowdown:.1f} x as slow as others"
        waiting = f", {counted(node.num_waiting, 'task')} waiting" if node.num_waiting else ""
        yield (
            f"node     {name}: {node.in_flight - node.num_waiting}/{node.threads:g} threads busy"
            f"{waiting}, {node.num_placed:,} tasks so far{idle}{slow}"
        )

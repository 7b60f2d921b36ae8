"""The options of commands that run a pipeline: how it runs, and what one start may do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from sage_dask.cli.amounts import Amount
from sage_dask.cli.machines import node_options
from sage_dask.cli.max_errors import Failures
from sage_dask.spec import Roots

F = TypeVar("F", bound=Callable[..., Any])

# These hold for one start of a run; all others are kept, and hold when it goes on.
_OF_ONE_START = ("retry_failed", "accept_changes", "extend")


def _seconds(
    _context: click.Context, _option: click.Parameter, milliseconds: float | None
) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _stages(
    _context: click.Context, _option: click.Parameter, given: tuple[str, ...]
) -> tuple[str, ...]:
    return tuple(name for text in given for name in text.split(",") if name)


_HOW = (
    click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Run on a Dask cluster that is there; the path of a scheduler file will do.",
    ),
    click.option(
        "--reconnect",
        is_flag=True,
        default=None,
        help="When the scheduler is lost, wait up to 10 minutes for it, and go on; needs "
        "--scheduler and --run-dir.",
    ),
    click.option("--policy", help="How tasks are placed: spread, pack, fifo, ..., or dask."),
    click.option(
        "--gate",
        "gates",
        type=Amount(int),
        multiple=True,
        help="Slots of a cluster-wide gate, such as llm=32; may be given again.",
    ),
    click.option("--priority", type=float, help="Of the whole job; higher runs first."),
    click.option("--weight", type=float, help="Share of the cluster among jobs; 1 is everyone's."),
    click.option(
        "--batch-size",
        type=click.IntRange(min=1),
        help="Records that travel together; measured where it is not given.",
    ),
    click.option(
        "--ordered/--as-completed",
        default=None,
        help="Without a run folder: write in the order of reading (default), or batches as they "
        "complete.",
    ),
    click.option(
        "--target-task-ms",
        "target_task_s",
        type=click.FloatRange(min=0, min_open=True),
        callback=_seconds,
        help="Busy milliseconds that tasks are steered to.",
    ),
    click.option(
        "--max-cost",
        type=click.FloatRange(min=0, min_open=True),
        help="Stop in good order once this is spent, in the currency of the stages' prices.",
    ),
    click.option(
        "--max-tokens",
        type=click.IntRange(min=1),
        help="Stop in good order after this many tokens, prompts and answers together.",
    ),
    click.option(
        "--max-errors",
        type=Failures(),
        help="Stop when more records fail: a number, or a share of those read, such as 5%.",
    ),
    click.option(
        "--max-stall",
        "max_stall_s",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="Stop after so long without any progress.",
    ),
    click.option(
        "--follow",
        is_flag=True,
        default=None,
        help="Write rows as they are done to DIR/growing.jsonl, too.",
    ),
)

_ONCE = (
    click.option(
        "--retry-failed",
        is_flag=True,
        default=None,
        help="Try records again that failed in earlier starts.",
    ),
    click.option(
        "--accept-changes",
        metavar="STAGE[,STAGE]",
        multiple=True,
        callback=_stages,
        help="Go on although these stages changed; what is done stays as it is.",
    ),
    click.option(
        "--extend",
        is_flag=True,
        default=None,
        help="Go on although the input has records that it had not.",
    ),
)

_OUTPUT = (
    click.option("--json", "as_json", is_flag=True, help="Print the report as JSON."),
    click.option("--quiet", is_flag=True, help="Print errors only, and what --json asks for."),
)


def run_options(command: F) -> F:
    """Add the options to a command; what is not said is None, or empty."""
    for option in reversed((*_HOW, *_ONCE, *_OUTPUT)):
        command = option(command)
    return node_options(command)


def to_keep(given: Mapping[str, Any], roots: Roots | None) -> dict[str, Any]:
    """Return what holds also when the run goes on, as JSON takes it."""
    kept = {
        name: value
        for name, value in given.items()
        if _is_said(value) and name not in _OF_ONE_START
    }
    return kept if roots is None else {**kept, "roots": [str(each) for each in roots.folders]}


def overridden(kept: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was kept, with what is said now in its place.

    Nodes that are asked for now take the place of a cluster, and the other way round.
    """
    said = {name: value for name, value in given.items() if _is_said(value)}
    gone: set[str] = set()
    if "scheduler" in said:
        gone = {"nodes", "threads", "resources"}
    elif "nodes" in said:
        gone = {"scheduler", "reconnect"}
    left = {name: value for name, value in kept.items() if name not in gone}
    return {**given, **left, **said}


def _is_said(value: Any) -> bool:
    """Tell whether an option was given: those that were not are None, or empty."""
    return value is not None and value != ()

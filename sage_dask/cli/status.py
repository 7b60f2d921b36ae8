"""``sage-dask status``: how a run stands, and what to do about it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from sage_dask.cli.examples import example
from sage_dask.cli.output import print_json
from sage_dask.cli.streams import say
from sage_dask.durable.run_status import (
    DONE,
    FAILED,
    INTERRUPTED,
    RUNNING,
    STOPPED,
    RunStatus,
    read_status,
)
from sage_dask.errors import counted

# One screen; the report has all of them.
_MOST_FAILURES = 5


@click.command(epilog=example("sage-dask status runs/rag", "sage-dask status runs/rag --verify"))
@click.argument("run_dir", metavar="DIR")
@click.option(
    "--verify", is_flag=True, help="Read the output, to see whether it is what was published."
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def status(run_dir: str, verify: bool, as_json: bool) -> None:
    """Print how the run in DIR stands: while it goes on, and after.

    Only reads, so that anybody may ask who can read the folder.
    """
    found = read_status(Path(run_dir), verify=verify)
    if as_json:
        print_json({**asdict(found), "next": next_step(found, run_dir)})
    else:
        say("\n".join(lines_of(found, run_dir)))


def lines_of(found: RunStatus, run_dir: str) -> Iterator[str]:
    """Yield a status as lines for people."""
    yield f"{run_dir}: {state_in_words(found)}"
    of = f" of {found.num_items:,}" if found.num_items is not None else ""
    begun = f", {found.num_begun:,} begun" if found.num_begun else ""
    yield f"  records     {found.num_done:,}{of} done{begun}"
    if found.num_failed:
        yield f"  failed      {counted(found.num_failed, 'record')}"
        by_number = sorted(found.failures.items(), key=lambda each: (-each[1], each[0]))
        for kind, number in by_number[:_MOST_FAILURES]:
            yield f"              {number:,} x {kind}"
        if len(by_number) > _MOST_FAILURES:
            yield f"              and {len(by_number) - _MOST_FAILURES} other kinds"
    yield f"  pipeline    {found.pipeline or 'not yet begun'}"
    last = f", the last on {found.started_at}" if found.started_at else ""
    yield f"  starts      {found.num_starts}{last}"
    yield f"  journal     {found.journal_bytes / 2**20:,.1f} MiB, last event {found.last_event}"
    yield from _output(found)
    if step := next_step(found, run_dir):
        yield f"  next        {step}"


def state_in_words(found: RunStatus) -> str:
    """Return how a run stands, and why."""
    if found.state == RUNNING and found.holder is not None:
        by = found.holder
        return f"running, as process {by.pid} on {by.host} since {by.started_at}"
    return f"{found.state} ({found.reason})" if found.reason else found.state


def next_step(found: RunStatus, run_dir: str) -> str:
    """Return what to do next; nothing while the run goes on, or where all is done."""
    again = (
        f"sage-dask resume {shlex.quote(run_dir)}"
        if found.launch is not None
        else f"run the program again that began it, with run_dir={run_dir!r}"
    )
    option = "--retry-failed" if found.launch is not None else "and retry_failed=True"
    if found.state == DONE and any(file.change for file in found.files):
        return f"{again}  (writes the output again)"
    if found.state == DONE and found.num_failed:
        return f"{again} {option}  (once the cause is mended)"
    if found.state == STOPPED:
        return f"{again}, with a higher limit"
    return again if found.state in (INTERRUPTED, FAILED) else ""


def _output(found: RunStatus) -> Iterator[str]:
    if not found.files:
        published = "published" if found.state == DONE else "not yet published"
        yield f"  output      {found.output or 'unknown'}, {published}"
        return
    for file in found.files:
        if file.size is None and not file.change:
            continue
        size = "" if file.size is None else f", {file.size:,} bytes"
        yield f"  output      {file.path}{size}, {file.change or 'as published'}"

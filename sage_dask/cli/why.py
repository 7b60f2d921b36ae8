"""``sage-dask why``: what happened to a record or a task, and for what reasons."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sage_dask.cli.examples import example
from sage_dask.cli.output import print_json
from sage_dask.cli.policy import control_at
from sage_dask.cli.streams import say
from sage_dask.errors import RunError, listed

if TYPE_CHECKING:
    from sage_dask.life.facts import Life


@click.command(
    epilog=example(
        "sage-dask why q-17 --run-dir runs/rag",
        "sage-dask why generate --scheduler tcp://head:8786",
    )
)
@click.argument("name", metavar="RECORD_ID|KEY")
@click.option(
    "--run-dir", metavar="RUN_DIR", help="Folder of a run: tell the life of record RECORD_ID."
)
@click.option(
    "--scheduler", metavar="ADDRESS", help="A Dask scheduler: tell the story of task KEY."
)
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
def why(name: str, run_dir: str | None, scheduler: str | None, as_json: bool) -> None:
    """Print what happened to a record or a task, and why.

    With --run-dir: the life of the record with id RECORD_ID, from the run's events; while the
    run goes on, after it, and of one that was killed.

    With --scheduler: where the task KEY was placed and why, or what it waits for. A part of a key
    will do: the latest few tasks that have it in theirs are shown.
    """
    if (run_dir is None) == (scheduler is None):
        raise click.UsageError(
            "give either --run-dir, with the id of a record, or --scheduler, with the key of a "
            "task; such as: sage-dask why q-17 --run-dir runs/rag"
        )
    if run_dir is not None:
        _tell_life(name, Path(run_dir), as_json=as_json)
    elif scheduler is not None:
        _tell_task(name, scheduler, as_json=as_json)


def _tell_task(key: str, scheduler: str, *, as_json: bool) -> None:
    with control_at(scheduler) as control:
        stories = control.why(key)
    if not stories:
        raise RunError(
            f"no task with {key!r} in its key waits, and none is among the last that ran; the "
            "dashboard shows the keys there are"
        )
    if as_json:
        print_json(dict(stories))
        return
    for name, lines in stories:
        say("\n  ".join([name, *lines]))


def _tell_life(record_id: str, path: Path, *, as_json: bool) -> None:
    from sage_dask.durable.known_rows import known_rows
    from sage_dask.durable.run_events import run_events
    from sage_dask.journal.lock import holder
    from sage_dask.journal.opening import has_journal
    from sage_dask.life.fold import LifeBuilder, possible_roots
    from sage_dask.life.nearest import nearest_ids
    from sage_dask.life.words import sentences

    # First: a run that ends meanwhile is then said to go on, which it did, not killed.
    is_held = holder(path) is not None if has_journal(path) else None
    builder = LifeBuilder(record_id)
    for event in run_events(path):
        builder.add(event)
    life = builder.life(known_rows(path, possible_roots(record_id)))
    if not life.is_known:
        raise RunError(_unknown(life, path, nearest_ids(record_id, run_events(path))))
    if as_json:
        print_json(life.as_dict())
    else:
        failed_file = _failed_file(life, path)
        say("\n".join(sentences(life, is_held=is_held, failed_file=failed_file)))


def _unknown(life: Life, path: Path, nearest: Sequence[str]) -> str:
    """Return what to say of an id that is not there."""
    if not life.tells_ids and life.num_read:
        kept = "" if life.has_journal else ", and it keeps no journal"
        return (
            f"{str(path)!r}: nothing is known of record {life.asked!r}: the events of this run do "
            f"not say which records were in a batch, since an older version wrote them{kept}"
        )
    so_far = "" if life.outcome == "done" else " so far"
    close = f"; ids like it are {listed(nearest)}" if nearest else ""
    return f"{str(path)!r}: no record with id {life.asked!r} was read{so_far}{close}"


def _failed_file(life: Life, path: Path) -> str:
    """Return where the failed records of the run's output stand; empty for nowhere."""
    from sage_dask.durable.run_status import read_launch
    from sage_dask.operators.files.companion import failed_path

    launch = read_launch(path) if life.has_journal else None
    file = failed_path(Path(life.output))
    base = Path(launch.folder if launch is not None else ".")
    return str(file) if (base / file).is_file() else ""

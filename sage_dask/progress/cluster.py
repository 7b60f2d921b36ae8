"""The table of all jobs of a cluster, made of what its scheduler tells."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from sage_dask.dashboard.board import JobView
from sage_dask.dashboard.snapshot import Snapshot
from sage_dask.errors import counted
from sage_dask.progress.live import Screen
from sage_dask.progress.overview import JobRow, Overview, names_of

REFRESH_S = 0.5

# What was said longer ago is not news.
_RECENT_S = 60.0
_MOST_NOTICES = 3


def overview_of(snapshot: Snapshot) -> Overview:
    """Return what a table of a cluster shows, the jobs that run first."""
    names = names_of([_pair(view.name) for view in snapshot.jobs])
    scheduling = snapshot.scheduling
    notices = [
        notice.text
        for at_s, notice in snapshot.notices[-_MOST_NOTICES:]
        if snapshot.now_s - at_s <= _RECENT_S
    ]
    return Overview(
        [_row(name, view) for name, view in zip(names, snapshot.jobs, strict=True)],
        {} if scheduling is None else scheduling.gates,
        {} if scheduling is None else scheduling.servers,
        notices,
        ", ".join(_headline(snapshot)),
    )


def watch(
    fetch: Callable[[], Snapshot],
    screen: Screen,
    *,
    pause: Callable[[float], object] = time.sleep,
) -> None:
    """Show a cluster until Ctrl-C; the last table stays on the screen.

    Args:
        fetch: Asks the scheduler.
        screen: Where.
        pause: Waits for so many seconds.
    """
    snapshot = fetch()
    screen.open()
    try:
        while True:
            screen.draw(overview_of(snapshot))
            pause(REFRESH_S)
            snapshot = fetch()
    except KeyboardInterrupt:
        return
    finally:
        screen.close()


def _pair(name: str) -> tuple[str, str]:
    pipeline, _, job = name.rpartition("/")
    return pipeline or job, job


def _row(name: str, view: JobView) -> JobRow:
    since_s = 0.0 if view.is_over else view.heard_s
    elapsed_s = view.progress.elapsed_s + since_s
    return JobRow(name, view.progress, view.state, elapsed_s, view.rate, view.eta_s)


def _headline(snapshot: Snapshot) -> Iterator[str]:
    num_threads = sum(node.num_threads for node in snapshot.nodes)
    yield f"{counted(len(snapshot.nodes), 'node')} with {counted(num_threads, 'thread')}"
    scheduling = snapshot.scheduling
    if scheduling is None:
        yield "Dask places all tasks"
        return
    yield f"policy {scheduling.policy}"
    yield f"{counted(scheduling.num_queued, 'task')} waiting, {scheduling.num_running:,} running"

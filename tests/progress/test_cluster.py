"""The table of a whole cluster."""

from __future__ import annotations

from sage_dask.dashboard.board import Board
from sage_dask.dashboard.snapshot import NodeLoad, Snapshot
from sage_dask.progress.cluster import overview_of, watch
from sage_dask.progress.table import table
from sage_dask.scheduling.statistics import Notice
from tests.progress.building import FakeScreen, progress_of, report_of


def snapshot(*, now_s=100.0, notices=(), **jobs):
    """Return a cluster of two nodes that Dask's own placement serves, with some jobs."""
    board = Board()
    for job, progress in jobs.items():
        board.hear(f"rag/{job}", "client", progress, now_s)
    nodes = [NodeLoad(f"node-{n}", 1, 4, 0.5, 0.5, 0) for n in range(2)]
    return Snapshot(now_s, board.jobs(now_s + 2.0), None, nodes, notices, False)


def test_a_cluster_is_shown_as_the_runs_of_a_process_are():
    """Jobs by name and id where two are of one pipeline, and above them what there is to run on."""
    shown = snapshot(a=progress_of(5, expected=10), b=progress_of(7, report=report_of("done")))

    lines = [line.plain for line in table(overview_of(shown), 120, 50)]

    assert lines[0] == "2 nodes with 8 threads, Dask places all tasks"
    assert [line.split()[0] for line in lines[2:4]] == ["rag/a", "rag/b"]
    assert lines[3].split()[3] == "done"


def test_time_goes_on_while_a_driver_says_nothing():
    """Until it says that the job is over."""
    shown = snapshot(a=progress_of(5, elapsed_s=10.0), b=progress_of(5, report=report_of("done")))

    assert [row.elapsed_s for row in overview_of(shown).jobs] == [12.0, 10.0]


def test_the_latest_notices_are_news_for_a_minute():
    """Older ones are for the page of the scheduler."""
    notices = [(at_s, Notice("drift", f"said at {at_s:.0f}")) for at_s in (1.0, 70.0, 80.0, 90.0)]

    assert overview_of(snapshot(notices=notices)).notes == [
        "said at 70",
        "said at 80",
        "said at 90",
    ]
    assert overview_of(snapshot(notices=notices, now_s=200.0)).notes == []


def test_watching_goes_on_until_ctrl_c():
    """Twice a second; the screen is given back, and the last table stays."""
    screen, pauses = FakeScreen(), []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    watch(snapshot, screen, pause=pause)

    assert (len(screen.drawn), pauses) == (3, [0.5] * 3)
    assert screen.story == ["open", "close"]

"""What a scheduler knows of jobs: rates, percentiles, states, and no more than it may hold."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from sage_dask.dashboard.board import MOST_ENDED, MOST_POINTS, SILENT_S, Board
from sage_dask.sketch import Sketch
from tests.dashboard.news import progress as told


def progress(num_read, *, latencies=(), **more):
    """Return news of a job: each latency is that of one record."""
    sketch = Sketch()
    for seconds in latencies:
        sketch.add(seconds)
    return told(num_read, latencies=sketch.counts, **more)


def view_of(board, now_s, paused=()):
    """Return the only job of a board."""
    (view,) = board.jobs(now_s, paused)
    return view


def test_the_latest_news_are_shown_as_they_are():
    """Nothing is counted anew of what the driver counted."""
    board, latest = Board(), progress(7)
    board.hear("rag/1", "driver", progress(3), 0.0)

    board.hear("rag/1", "driver", latest, 0.5)

    view = view_of(board, 2.5)
    assert (view.name, view.state, view.is_over) == ("rag/1", "running", False)
    assert view.progress is latest
    assert view.heard_s == 2.0


def test_a_point_is_made_each_second_and_says_what_was_done_since():
    """News in between are shown, and make none."""
    board = Board()
    for now_s, num_read in ((0.0, 0), (0.5, 10), (1.0, 30), (1.5, 40), (3.0, 70)):
        board.hear("rag/1", "driver", progress(num_read), now_s)

    points = view_of(board, 3.0).points

    assert [(point.at_s, point.rate) for point in points] == [(1.0, 30.0), (3.0, 20.0)]


def test_percentiles_of_a_point_are_those_of_its_own_time():
    """What was slow before does not count again, and where nothing was written there is none."""
    board, early = Board(), [10.0] * 100
    late = [*early, *[0.1] * 98, 2.0, 2.0]
    board.hear("rag/1", "driver", progress(0), 0.0)

    for now_s, latencies in ((1.0, early), (2.0, late), (3.0, late)):
        board.hear("rag/1", "driver", progress(len(latencies), latencies=latencies), now_s)

    first, second, third = view_of(board, 3.0).points
    assert (first.p50_s, first.p99_s) == (pytest.approx(10, rel=0.01),) * 2
    assert (second.p50_s, second.p99_s) == (
        pytest.approx(0.1, rel=0.01),
        pytest.approx(2.0, rel=0.01),
    )
    assert math.isnan(third.p50_s)
    assert math.isnan(third.p99_s)


def test_the_rate_is_that_of_the_last_ten_seconds_and_ends_when_news_do():
    """However far the points are apart, it is what was done by the time it took."""
    board = Board()
    for now_s, num_read in ((0.0, 0), (20.0, 2000), (21.0, 2010), (25.0, 2050)):
        board.hear("rag/1", "driver", progress(num_read), now_s)

    assert view_of(board, 25.0).rate == 10.0
    assert view_of(board, 36.0).rate == 0.0


def test_what_earlier_starts_did_is_no_speed():
    """A run that goes on has its thousands behind it, and their latencies."""
    board = Board()
    before = {"num_before": 5000, "expected": 6000}
    board.hear("rag/1", "driver", progress(5000, latencies=[9.0] * 50, **before), 0.0)

    board.hear("rag/1", "driver", progress(5010, latencies=[9.0] * 50 + [1.0], **before), 1.0)

    view = view_of(board, 1.0)
    assert (view.rate, view.eta_s) == (10.0, 99.0)
    assert view.points[0].p50_s == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize(
    ("expected", "paused", "eta_s"),
    [(150, (), 5.0), (None, (), None), (50, (), 0.0), (150, ("rag/1",), None)],
)
def test_time_to_go_is_known_where_the_rest_is_and_the_job_moves(expected, paused, eta_s):
    """A source that had more than it said is as good as done; when a pause ends nobody knows."""
    board = Board()
    for now_s, num_read in ((0.0, 0), (1.0, 10), (10.0, 100)):
        board.hear("rag/1", "driver", progress(num_read, expected=expected), now_s)

    view = view_of(board, 10.0, paused)

    assert view.rate == 10.0
    assert (view.state, view.eta_s) == ("paused" if paused else "running", eta_s)


def test_a_job_that_ended_is_called_by_its_outcome():
    """It is over, needs no more time, and leaving is then no loss."""
    board = Board()
    board.hear("rag/1", "driver", progress(0, expected=100), 0.0)
    board.hear("rag/1", "driver", progress(50, expected=100, outcome="done"), 1.0)

    lost = board.client_left("driver")

    view = view_of(board, 1.0, ["rag/1"])
    assert (view.state, view.is_over, view.eta_s, lost) == ("done", True, None, [])
    assert not board.is_running("rag/1")
    assert board.outcomes() == {"rag/1": "done"}


def test_a_driver_that_says_nothing_is_silent_until_it_speaks():
    """Silent jobs count among those that run."""
    board = Board()
    board.hear("rag/1", "driver", progress(0), 0.0)

    just, long = view_of(board, SILENT_S), view_of(board, SILENT_S + 0.1)
    board.hear("rag/1", "driver", progress(1), 20.0)

    assert (just.state, long.state, long.is_over) == ("running", "silent", False)
    assert view_of(board, 20.0).state == "running"


def test_a_driver_that_leaves_loses_its_jobs_and_no_others():
    """Those that it did not end, that is; should it speak again, it was not gone."""
    board = Board()
    board.hear("rag/1", "one", progress(0), 0.0)
    board.hear("rag/2", "other", progress(0), 0.0)

    lost = board.client_left("one")
    states = {view.name: view.state for view in board.jobs(0.0, ["rag/1"])}
    board.hear("rag/1", "one", progress(1), 0.5)

    assert lost == ["rag/1"]
    assert states == {"rag/1": "lost", "rag/2": "running"}
    assert {view.state for view in board.jobs(0.5)} == {"running"}


def test_jobs_that_run_come_first_and_the_latest_before_the_others():
    """Whoever looks for the job just started finds it on top."""
    board = Board()
    for number in range(4):
        board.hear(f"rag/{number}", "driver", progress(0), float(number))
    for number in (0, 3):
        board.hear(f"rag/{number}", "driver", progress(0, outcome="done"), 4.0)

    assert [view.name for view in board.jobs(4.0)] == ["rag/2", "rag/1", "rag/3", "rag/0"]


@pytest.mark.parametrize("end", ["done", "lost", "silent"])
def test_a_thousand_jobs_leave_the_last_few(end):
    """However they ended; those that run are all kept."""
    board, now_s = Board(), 0.0
    for number in range(1000):
        now_s += 2 * SILENT_S
        board.hear(f"rag/{number}", f"client-{number}", progress(0), now_s)
        if end == "done":
            board.hear(f"rag/{number}", f"client-{number}", progress(0, outcome="done"), now_s)
        elif end == "lost":
            board.client_left(f"client-{number}")

    names = [view.name for view in board.jobs(now_s)]

    # The latest, and those that had ended as it came.
    assert names[0] == "rag/999"
    assert len(names) == MOST_ENDED + 1
    assert "rag/0" not in names


def test_jobs_that_run_are_never_forgotten():
    """Not even among many that end."""
    board = Board()
    for number in range(100):
        board.hear(f"long/{number}", "driver", progress(0), 0.0)
    for number in range(100):
        board.hear(f"short/{number}", "driver", progress(0, outcome="done"), 1.0)

    assert sum(not view.is_over for view in board.jobs(1.0)) == 100


def test_ten_thousand_news_leave_ten_minutes_of_points():
    """The oldest go, and the latest stay."""
    board, news = Board(), progress(0)
    for number in range(10_000):
        board.hear("rag/1", "driver", replace(news, num_read=number), float(number))

    points = view_of(board, 9_999.0).points

    assert len(points) == MOST_POINTS
    assert (points[0].at_s, points[-1].at_s) == (9_400.0, 9_999.0)

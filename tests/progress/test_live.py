"""When the table of a process begins, is drawn, and ends."""

from __future__ import annotations

import threading

import pytest

from sage_dask import Collect, FromIterable, Pipeline
from sage_dask.progress.live import LiveProgress
from sage_dask.testing import FakeClock
from tests.progress.building import FakeScreen, progress_of, report_of

PATIENCE_S = 10.0


def live(screen):
    """Return a table on a screen, with a clock that stands still."""
    return LiveProgress(screen, clock=FakeClock())


def counts(screen):
    """Return the records done of the jobs that were drawn last."""
    return [row.progress.num_read for row in screen.drawn[-1].jobs]


def pipeline(function=dict):
    """Return a pipeline of ten records."""
    return Pipeline("count").source(FromIterable([{}] * 10)).map(function).sink(Collect())


def test_a_run_opens_the_table_and_its_end_closes_it():
    """Nobody has to; the last state is drawn."""
    screen = FakeScreen()

    pipeline().run(observer=live(screen))

    assert screen.story == ["open", "close"]
    assert counts(screen) == [10]
    assert screen.drawn[-1].jobs[0].state == "done"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_a_run_that_breaks_off_closes_the_table(error):
    """Ctrl-C, or an error that ends the run, leaves the last state with what ended it."""
    screen = FakeScreen()
    seen = []

    def observe(progress):
        display(progress)
        if progress.num_read and not seen:
            seen.append(progress)
            raise error

    display = live(screen)
    with pytest.raises(error):
        pipeline().run(observer=observe, batch_size=2)

    assert screen.story == ["open", "close"]
    assert screen.drawn[-1].jobs[0].state == error.__name__


def test_runs_at_once_share_a_table_until_the_last_has_ended():
    """Rows stay in the order in which the jobs came; one that is over stays until all are."""
    screen = FakeScreen()
    display = live(screen)

    display(progress_of(1, job="1f"))
    display(progress_of(2, job="2e"))
    display(progress_of(3, job="1f", report=report_of("done")))
    story = list(screen.story)
    display(progress_of(4, job="2e", report=report_of("done")))

    assert (story, screen.story) == (["open"], ["open", "close"])
    assert counts(screen) == [3, 4]


def test_one_run_after_the_other_has_a_table_each():
    """The first stays as it is, and is not repeated below."""
    screen = FakeScreen()
    display = live(screen)

    for job in ("1f", "2e"):
        display(progress_of(1, job=job))
        display(progress_of(2, job=job, report=report_of("done")))

    assert screen.story == ["open", "close"] * 2
    assert counts(screen) == [2]


def test_with_ends_a_table_whose_run_said_nothing():
    """As where a thread was left behind; without any news there is no table at all."""
    screen = FakeScreen()

    with live(screen):
        pass
    with live(screen) as display:
        display(progress_of(1))

    assert screen.story == ["open", "close"]


def test_a_table_is_drawn_while_nothing_happens():
    """By a thread of its own, which goes away with the table."""
    drawn = threading.Event()

    class Waiting(FakeScreen):
        def draw(self, overview):
            super().draw(overview)
            drawn.set()

    before = set(threading.enumerate())
    display = LiveProgress(Waiting())
    display(progress_of(1))

    assert drawn.wait(PATIENCE_S)
    (drawer,) = set(threading.enumerate()) - before
    display(progress_of(1, report=report_of("done")))
    drawer.join(PATIENCE_S)
    assert not drawer.is_alive()


def test_a_screen_that_is_gone_does_not_end_the_run():
    """A terminal that hung up takes nothing any more; the run goes on."""

    class Gone(FakeScreen):
        def draw(self, overview):
            raise OSError("hung up")

    screen = Gone()

    report = pipeline().run(observer=live(screen))

    assert report.is_done
    assert screen.story == ["open", "close"]


def test_a_screen_that_takes_its_time_does_not_hold_up_the_run():
    """News are taken while the screen is drawn, as after Ctrl-S."""
    is_drawing, go_on = threading.Event(), threading.Event()

    class Stopped(FakeScreen):
        def draw(self, overview):
            is_drawing.set()
            assert go_on.wait(PATIENCE_S)
            super().draw(overview)

    screen = Stopped()
    display = live(screen)
    display(progress_of(1))
    assert is_drawing.wait(PATIENCE_S)

    for number in range(2, 100):
        display(progress_of(number))
    go_on.set()
    display(progress_of(100, report=report_of("done")))

    assert counts(screen) == [100]

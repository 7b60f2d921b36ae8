"""Progress in logs and pipes."""

from __future__ import annotations

import io

from sage_dask import Collect, FromIterable, Pipeline
from sage_dask.progress.lines import LINE_INTERVAL_S, LineProgress
from sage_dask.testing import FakeClock
from tests.progress.building import progress_of, report_of


def test_lines_come_at_most_every_interval():
    """A log gets the first state, then one line per interval, then the last state."""
    clock, stream = FakeClock(), io.StringIO()

    with LineProgress(stream, clock=clock) as observer:
        for num_read in range(1, 12):
            observer(progress_of(num_read, elapsed_s=clock()))
            clock.advance(LINE_INTERVAL_S / 4)

    assert [line.split()[1] for line in stream.getvalue().splitlines()] == ["1", "5", "9", "11"]


def test_lines_tell_a_note_when_it_comes_and_when_it_goes():
    """A note is written at once, its new wording with the next interval, and its end at once."""
    clock, stream = FakeClock(), io.StringIO()
    texts = [(), ("down for 1 s",), ("down for 2 s",), ("down for 3 s",), (), ()]

    observer = LineProgress(stream, clock=clock)
    for notes in texts:
        observer(progress_of(4, notes=notes))
        clock.advance(LINE_INTERVAL_S / 2)

    state = "rag: 4 done   0.4/s   0:10"
    assert stream.getvalue().splitlines() == [
        state,
        f"{state}   down for 1 s",
        f"{state}   down for 3 s",
        state,
    ]


def test_a_line_holds_no_orders_to_a_terminal():
    """Line breaks and colours of a server's words do not break the log."""
    stream = io.StringIO()

    LineProgress(stream, clock=FakeClock())(
        progress_of(4, notes=("down:\nno\r\n\x1b[31mroute\x1b[0m",))
    )

    assert stream.getvalue() == "rag: 4 done   0.4/s   0:10   down: no route\n"


def test_the_end_is_told_once():
    """A state that was written just before the end is not written twice; a new one is at once."""
    stream, clock = io.StringIO(), FakeClock()

    with LineProgress(stream, clock=clock) as observer:
        observer(progress_of(4))
        observer(progress_of(4, report=report_of("done")))
        observer(progress_of(4, job="2"))
        observer(progress_of(6, job="2", report=report_of("done")))

    assert stream.getvalue().splitlines() == [
        "rag: 4 done   0.4/s   0:10",
        "rag: 4 done   0.4/s   0:10",
        "rag: 6 done   0.6/s   0:10",
    ]


def test_a_run_that_broke_off_has_a_last_line_that_says_so():
    """Though nothing was counted since the line before."""
    stream = io.StringIO()

    observer = LineProgress(stream, clock=FakeClock())
    observer(progress_of(4))
    observer(progress_of(4, report=report_of("KeyboardInterrupt")))

    assert stream.getvalue().splitlines()[-1].endswith("ended: KeyboardInterrupt")


def test_each_job_has_lines_of_its_own():
    """Two runs at once are told apart, and neither keeps the other's line back."""
    stream = io.StringIO()

    observer = LineProgress(stream, clock=FakeClock())
    for job in ("1f", "2e", "1f"):
        observer(progress_of(4, job=job))
    observer(progress_of(5, job="2e", report=report_of("done")))

    assert [line.partition("   ")[0] for line in stream.getvalue().splitlines()] == [
        "rag: 4 done",
        "rag/2e: 4 done",
        "rag/2e: 5 done",
    ]


def test_progress_observes_a_real_run():
    """The last line of a run counts every record, without anybody ending the display."""
    stream = io.StringIO()
    pipeline = Pipeline("count").source(FromIterable(range(10))).map(dict).sink(Collect())

    pipeline.run(observer=LineProgress(stream, clock=FakeClock()))

    lines = stream.getvalue().splitlines()
    assert "0 of 10 done (0%)" in lines[0]
    assert "10 of 10 done (100%)" in lines[-1]


def test_a_reader_who_left_does_not_end_the_run():
    """Lines that nobody takes any more are dropped."""

    class GoneStream(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    with LineProgress(GoneStream()) as progress:
        progress(progress_of(1))

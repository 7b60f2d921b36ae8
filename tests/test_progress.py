"""Progress on terminals, in logs, and nowhere."""

from __future__ import annotations

import io

from rich.console import Console

from sage_dask import Collect, FromIterable, Pipeline
from sage_dask.progress import (
    LINE_INTERVAL_S,
    LineProgress,
    LiveProgress,
    NoProgress,
    clock_time,
    show_progress,
    summary,
)
from sage_dask.standing import Progress
from sage_dask.testing import FakeClock


def progress_of(num_read, *, expected=None, num_failed=0, num_filtered=0, elapsed_s=10.0, **others):
    """Return the state of a run in which nothing else happened."""
    num_written = num_read - num_failed - num_filtered
    return Progress(
        "rag", num_read, num_written, num_failed, num_filtered, expected, elapsed_s, **others
    )


class FakeTerminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        """Say so."""
        return True


def terminal():
    """Return a console that behaves as on a terminal, and what is written to it."""
    stream = io.StringIO()
    return Console(file=stream, force_terminal=True, width=120), stream


def text_of(renderable):
    """Return what rich would draw, without colours."""
    stream = io.StringIO()
    Console(file=stream, width=120, no_color=True).print(renderable)
    return stream.getvalue()


def test_summary_counts_rate_and_time_left():
    """Rate is what is done over elapsed time, and time left follows from it."""
    line = summary(progress_of(1_000, expected=4_000, num_failed=3, num_filtered=5), 50.0)

    assert line == ("1,000 of 4,000 done (25%)   20.0/s   3 failed   5 filtered   0:50   2:30 left")


def test_summary_without_an_end_has_no_time_left():
    """A source of unknown length shows no share and no end; a run just begun no rate."""
    assert summary(progress_of(7), 2.0) == "7 done   3.5/s   0:02"
    assert summary(progress_of(0, expected=0), 0.0) == "0 of 0 done   0.0/s   0:00"


def test_more_records_than_expected_are_at_most_all():
    """A source that undersells itself never shows more than 100 % or a negative time left."""
    line = summary(progress_of(30, expected=20), 10.0)

    assert "30 of 20 done (100%)" in line
    assert "left" not in line


def test_clock_time_grows_hours_when_needed():
    """Durations read as a clock does."""
    assert [clock_time(s) for s in (0, 59.9, 61, 3_725)] == ["0:00", "0:59", "1:01", "1:02:05"]


def test_lines_come_at_most_every_interval():
    """A log gets the first state, then one line per interval, then the last state."""
    clock, stream = FakeClock(), io.StringIO()

    with LineProgress(stream, clock=clock) as observer:
        for num_read in range(1, 12):
            observer(progress_of(num_read, elapsed_s=clock()))
            clock.advance(LINE_INTERVAL_S / 4)

    assert [line.split()[1] for line in stream.getvalue().splitlines()] == ["1", "5", "9", "11"]


def test_summary_tells_what_was_spent():
    """Tokens and cost stand in the line where there are any."""
    line = summary(progress_of(10, tokens=12_345, cost=0.456), 10.0)

    assert line == "10 done   1.0/s   12.3k tokens   cost 0.456   0:10"


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


def test_a_note_stays_on_its_line():
    """Line breaks in a server's words do not break the log."""
    stream = io.StringIO()

    LineProgress(stream, clock=FakeClock())(progress_of(4, notes=("down:\nno\r\nroute",)))

    assert stream.getvalue() == "rag: 4 done   0.4/s   0:10   down: no route\n"


def test_live_shows_each_note_below_the_line():
    """Notes stand below the counts as they are, brackets and all."""
    console, _ = terminal()
    live = LiveProgress(console, clock=FakeClock())

    live(progress_of(50, notes=("gpu-0 [red]down[/red]", "gpu-1 slow")))
    lines = text_of(live.render()).splitlines()

    assert [line.strip() for line in lines[1:]] == ["gpu-0 [red]down[/red]", "gpu-1 slow"]


def test_lines_do_not_repeat_the_last_state():
    """A state that was written just before the end is not written twice."""
    stream = io.StringIO()

    with LineProgress(stream, clock=FakeClock()) as observer:
        observer(progress_of(4))

    assert stream.getvalue() == "rag: 4 done   0.4/s   0:10\n"


def test_live_line_has_a_bar_where_the_end_is_known():
    """Name, bar and counts stand on one line; without an end there is no bar."""
    console, _ = terminal()
    live = LiveProgress(console, clock=FakeClock())

    live(progress_of(50, expected=100))
    with_end = text_of(live.render())
    live(progress_of(50))
    without_end = text_of(live.render())

    assert with_end.startswith("rag")
    assert "━" in with_end
    assert "50 of 100 done (50%)" in with_end
    assert "━" not in without_end
    assert without_end.count("\n") == with_end.count("\n") == 1


def test_live_time_goes_on_between_batches():
    """While a slow batch is awaited, elapsed time grows and the rate falls."""
    clock = FakeClock()
    console, _ = terminal()
    live = LiveProgress(console, clock=clock)
    live(progress_of(50, elapsed_s=10.0))

    clock.advance(15.0)

    assert "50 done   2.0/s   0:25" in text_of(live.render())


def test_live_leaves_the_last_state_on_the_screen():
    """What was reported last is drawn when the block ends, by an exception too."""
    console, stream = terminal()

    try:
        with LiveProgress(console, clock=FakeClock()) as observer:
            observer(progress_of(123))
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass

    assert "123 done" in stream.getvalue()


def test_the_stream_decides_how_it_is_shown():
    """Terminals get the live line, other streams plain lines, and quiet runs nothing."""
    assert isinstance(show_progress(FakeTerminal()), LiveProgress)
    assert isinstance(show_progress(io.StringIO()), LineProgress)
    assert isinstance(show_progress(FakeTerminal(), quiet=True), NoProgress)


def test_progress_observes_a_real_run():
    """The last line of a run counts every record."""
    stream = io.StringIO()
    pipeline = Pipeline("count").source(FromIterable(range(10))).map(dict).sink(Collect())

    with LineProgress(stream, clock=FakeClock()) as observer:
        pipeline.run(observer=observer)

    assert "10 of 10 done (100%)" in stream.getvalue().splitlines()[-1]


def test_a_reader_who_left_does_not_end_the_run():
    """Lines that nobody takes any more are dropped; a stream that never was gets none."""

    class GoneStream(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    with LineProgress(GoneStream()) as progress:
        progress(progress_of(1))

    assert isinstance(show_progress(None), NoProgress)

"""The table on a terminal."""

from __future__ import annotations

import io
import logging
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import pytest
from rich.console import Console

from sage_dask.progress.overview import Overview
from sage_dask.progress.terminal import Terminal
from tests.progress.building import row_of


class FakeTty(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        """Say so."""
        return True


@pytest.fixture
def tty():
    """Lend a terminal."""
    return FakeTty()


@contextmanager
def opened(tty, stdout=None, **options):
    """Lend a screen on a terminal that both standard streams write to, or one of them."""
    with redirect_stdout(stdout or tty), redirect_stderr(tty):
        console = Console(file=tty, force_terminal=True, width=80, height=24, **options)
        screen = Terminal(console)
        screen.open()
        yield screen
        screen.close()
        assert (sys.stdout, sys.stderr) == (stdout or tty, tty)


def shown(stream):
    """Return what a terminal shows that was given all of this."""
    screen, line, column = [""], 0, 0
    parts = stream.getvalue().replace("\r\n", "\n")
    at = 0
    while at < len(parts):
        letter = parts[at]
        at += 1
        if letter == "\n":
            line, column = line + 1, 0
            screen += [""] * (line + 1 - len(screen))
        elif letter == "\r":
            column = 0
        elif letter == "\x1b":
            end = next(n for n in range(at + 1, len(parts)) if parts[n].isalpha())
            order, at = parts[at + 1 : end + 1], end + 1
            if order.endswith("A"):
                line -= int(order[:-1] or 1)
            elif order == "2K":
                screen[line] = ""
        else:
            screen[line] = screen[line][:column].ljust(column) + letter + screen[line][column + 1 :]
            column += 1
    return [each.rstrip() for each in screen]


def rows(stream):
    """Return the first word and the count of the rows of jobs that stand on the screen."""
    return [line.split()[:2] for line in shown(stream) if line.startswith("rag")]


def drawn(screen, *counts):
    """Draw a job as often as there are counts."""
    for number in counts:
        screen.draw(Overview([row_of(num_read=number)]))


def test_one_table_stays_on_the_screen(tty):
    """It is drawn in its own place, and the last one is left with the cursor below it."""
    with opened(tty) as screen:
        drawn(screen, 1, 2, 3)

    assert rows(tty) == [["rag", "3"]]
    assert "\x1b[?25h" in tty.getvalue().rpartition("\x1b[?25l")[2]
    assert shown(tty)[-1] == ""


def test_a_table_that_became_smaller_leaves_nothing_behind(tty):
    """Rows of before are gone, as when notes go."""
    with opened(tty) as screen:
        screen.draw(Overview([row_of(notes=("down",)), row_of("other")], notes=["b", "c"]))
        drawn(screen, 7)

    assert [line.split()[0] for line in shown(tty) if line] == ["job", "rag"]


def test_what_is_printed_meanwhile_stands_above(tty):
    """In the order in which it came, and in whole lines, the last one's rest at the end."""
    with opened(tty) as screen:
        drawn(screen, 1)
        print("first")
        print("second, ", end="")
        drawn(screen, 2)
        print("in two [red]parts[/red]")
        print("a last one", end="", file=sys.stderr)
        drawn(screen, 3)

    lines = [line for line in shown(tty) if line]
    assert lines[:3] == ["first", "second, in two [red]parts[/red]", "a last one"]
    assert rows(tty) == [["rag", "3"]]


def test_loggers_that_have_the_stream_write_above_it_too(tty):
    """As handlers do that were made before; afterwards they have their stream again."""
    handler = logging.StreamHandler(tty)
    logger = logging.getLogger("tests.terminal")
    logger.addHandler(handler)

    with opened(tty) as screen:
        drawn(screen, 1)
        logger.warning("a worker is slow")
        drawn(screen, 2)
    logger.removeHandler(handler)

    assert "a worker is slow" in shown(tty)
    assert rows(tty) == [["rag", "2"]]
    assert handler.stream is tty


def test_a_stream_that_is_no_terminal_keeps_what_is_printed(tty):
    """Results in a pipe are not diverted to the screen."""
    pipe = io.StringIO()

    with opened(tty, stdout=pipe) as screen:
        drawn(screen, 1)
        print("a result")

    assert pipe.getvalue() == "a result\n"
    assert "a result" not in tty.getvalue()


def test_a_terminal_without_our_letters_gets_others():
    """Names in letters that it lacks do not end the display either."""

    class AsciiTty(FakeTty):
        encoding = "ascii"

        def write(self, text):
            text.encode("ascii")
            return super().write(text)

    tty = AsciiTty()

    with opened(tty) as screen:
        screen.draw(Overview([row_of("naïve", num_read=50, expected=100)]))

    assert "na?ve" in tty.getvalue()
    assert "===---" in tty.getvalue()


def test_colours_are_left_out_where_they_are_not_wanted(tty, monkeypatch):
    """NO_COLOR leaves no colour code, and the bar reads without."""
    monkeypatch.setenv("NO_COLOR", "1")

    with opened(tty) as screen:
        screen.draw(Overview([row_of(num_read=50, expected=100, num_failed=3)]))

    assert "\x1b[31m" not in tty.getvalue()
    assert "\x1b[32m" not in tty.getvalue()
    assert "━━━━━─────" in tty.getvalue()

"""Which way of showing progress suits where the program runs."""

from __future__ import annotations

import io
import sys

import pytest

from sage_dask.progress import LineProgress, LiveProgress, NoProgress, show_progress
from tests.progress.building import progress_of


class FakeTty(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        """Say so."""
        return True


@pytest.fixture(autouse=True)
def colourful(monkeypatch):
    """Have the terminal be an ordinary one."""
    monkeypatch.setenv("TERM", "xterm-256color")


def test_the_stream_decides_how_it_is_shown():
    """Terminals get the table, other streams plain lines, and quiet runs nothing."""
    assert isinstance(show_progress(FakeTty()), LiveProgress)
    assert isinstance(show_progress(io.StringIO()), LineProgress)
    assert isinstance(show_progress(FakeTty(), quiet=True), NoProgress)


def test_a_terminal_that_can_not_move_its_cursor_gets_lines(monkeypatch):
    """As in editors' shells."""
    monkeypatch.setenv("TERM", "dumb")

    assert isinstance(show_progress(FakeTty()), LineProgress)


def test_by_default_it_goes_to_standard_error(monkeypatch):
    """So that results on standard output stand alone; a process without one is shown nothing."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    show_progress()(progress_of(3))
    monkeypatch.setattr(sys, "stderr", None)

    assert isinstance(show_progress(), NoProgress)
    assert stream.getvalue().startswith("rag: 3 done")


def test_no_progress_takes_everything():
    """Also in a with block."""
    with show_progress(quiet=True) as observer:
        assert observer(progress_of(1)) is None

"""Why a run makes no progress, and when that ends it."""

from __future__ import annotations

import pytest

from sage_dask.errors import RunError
from sage_dask.testing import FakeClock
from sage_dask.watchdog import NOTE_AFTER_S, StalledError, Watchdog


class Scene:
    """A watchdog, its clock, what it asked and what it showed."""

    def __init__(self, max_stall_s=600.0):
        self.clock = FakeClock(50.0)
        self.asked = 0
        self.notes = []
        self.watchdog = Watchdog(self.explain, self.notes.append, max_stall_s, clock=self.clock)

    def explain(self):
        self.asked += 1
        return "gate 'llm' is closed"

    def look_after(self, seconds):
        self.clock.advance(seconds)
        self.watchdog.look()


def test_half_a_minute_without_a_batch_is_told_with_its_reason():
    """Nobody is asked before that: the scheduler has other things to do."""
    scene = Scene()

    scene.look_after(NOTE_AFTER_S - 0.1)
    before = (scene.asked, list(scene.notes))
    scene.look_after(0.1)

    assert before == (0, [])
    assert scene.notes == ["no progress for 30 s: gate 'llm' is closed"]


def test_the_reason_is_asked_for_again_now_and_then():
    """A look per second costs the scheduler one question in ten seconds."""
    scene = Scene()

    for _ in range(60):
        scene.look_after(1.0)

    assert scene.asked == 4
    assert scene.notes[-1] == "no progress for 60 s: gate 'llm' is closed"


def test_a_batch_that_comes_back_takes_the_note_away():
    """The clock begins anew, and so does the silence."""
    scene = Scene()
    scene.look_after(NOTE_AFTER_S)

    scene.watchdog.progressed()
    scene.look_after(NOTE_AFTER_S - 1)

    assert scene.notes[1:] == [None]


def test_progress_without_a_note_takes_none_away():
    """An observer is not told of nothing."""
    scene = Scene()

    scene.watchdog.progressed()

    assert scene.notes == []


def test_a_stall_that_lasts_too_long_ends_the_run():
    """The error tells how long, why, and what to do, and counts as one of a run."""
    scene = Scene(max_stall_s=100.0)
    scene.look_after(99.9)

    with pytest.raises(StalledError) as told:
        scene.look_after(0.1)

    assert isinstance(told.value, RunError)
    assert str(told.value) == (
        "no progress for 100 s: gate 'llm' is closed; mend that and go on, or raise max_stall_s "
        "where tasks take so long"
    )


def test_a_limit_below_the_note_ends_a_run_all_the_same():
    """Nothing has to be told before it is over."""
    scene = Scene(max_stall_s=1.0)

    with pytest.raises(StalledError):
        scene.look_after(1.0)

    assert repr(scene.watchdog) == "<Watchdog, no progress for 1 s>"

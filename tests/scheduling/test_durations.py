"""How long tasks take: by stage, and by how much on one node longer than on others."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.scheduling.durations import _MOST_STAGES, UNKNOWN_S, Durations, Slowdown

SECONDS = st.floats(1e-3, 1e3)


def test_a_stage_that_was_never_measured_takes_what_dask_assumes():
    """Half a second, for the stage and for a typical task."""
    durations = Durations()

    assert durations.estimate_s("embed") == durations.typical_s == UNKNOWN_S == 0.5
    assert not durations.is_known("embed")


@given(st.lists(SECONDS, min_size=1, max_size=20))
def test_few_tasks_are_averaged_exactly(seconds):
    """Up to twenty measurements all count the same."""
    durations = Durations()

    for each in seconds:
        durations.observe("embed", each)

    assert durations.estimate_s("embed") == pytest.approx(sum(seconds) / len(seconds))
    assert durations.is_known("embed")


@given(st.lists(SECONDS, min_size=1, max_size=60))
def test_estimates_stay_between_the_shortest_and_the_longest(seconds):
    """Whatever was measured, the estimate was possible."""
    durations = Durations()

    for each in seconds:
        durations.observe("embed", each)

    assert min(seconds) * 0.999 <= durations.estimate_s("embed") <= max(seconds) * 1.001


def test_a_stage_that_changes_is_followed():
    """After a hundred tasks of ten times the length, the old length is forgotten."""
    durations = Durations()
    for seconds in [1.0] * 100 + [10.0] * 100:
        durations.observe("embed", seconds)

    assert durations.estimate_s("embed") == pytest.approx(10.0, rel=0.01)


def test_stages_are_apart_and_a_typical_task_is_of_all():
    """Each has its own estimate, and the mean of both is typical."""
    durations = Durations()
    durations.observe("short", 1.0)
    durations.observe("long", 3.0)

    assert (durations.estimate_s("short"), durations.estimate_s("long")) == (1.0, 3.0)
    assert durations.typical_s == 2.0


def test_stages_that_come_and_go_do_not_pile_up():
    """Of more stages than are kept the first is unknown again, and the last is known."""
    durations = Durations()
    for number in range(_MOST_STAGES + 1):
        durations.observe(f"stage {number}", 3.0)

    assert durations.estimate_s("stage 0") == UNKNOWN_S
    assert durations.estimate_s(f"stage {_MOST_STAGES}") == 3.0


def test_nothing_is_for_nothing():
    """A task that took no measurable time leaves an estimate that can be divided by."""
    durations = Durations()
    durations.observe("embed", 0.0)

    assert durations.estimate_s("embed") > 0
    assert durations.typical_s > 0


def seen(ratios, now_s=0.0):
    """Return a slowdown that has seen these ratios at one time."""
    slowdown = Slowdown()
    for ratio in ratios:
        slowdown.observe(ratio, now_s)
    return slowdown


def test_a_node_is_as_fast_as_others_until_there_is_evidence():
    """Neither nothing nor one slow task says anything."""
    assert seen([]).value(0.0) == 1.0
    assert seen([50.0]).value(0.0) == 1.0


def test_a_node_that_is_three_times_slower_is_noticed():
    """After twenty tasks the factor is near three, shrunk a little towards one."""
    assert 2.5 < seen([2.9, 3.1] * 10).value(0.0) < 3.0


def test_a_node_that_is_twice_as_fast_is_noticed():
    """The factor may be below one."""
    assert 0.5 < seen([0.45, 0.55] * 10).value(0.0) < 0.65


def test_small_differences_do_not_count():
    """Ten per cent are no reason to prefer a node."""
    assert seen([1.1] * 40).value(0.0) == 1.0
    assert seen([0.9] * 40).value(0.0) == 1.0


def test_chance_does_not_count():
    """Lengths that vary by a factor of a hundred leave a handful of tasks without a meaning."""
    assert seen([0.1, 0.1, 9.0, 0.1, 3.0]).value(0.0) == 1.0


def test_equal_nodes_are_rarely_blamed():
    """Of two hundred equal nodes with noisy tasks, at most one in twenty stands out."""
    rng = random.Random(7)

    blamed = sum(
        seen([rng.lognormvariate(-0.125, 0.5) for _ in range(15)]).value(0.0) != 1.0
        for _ in range(200)
    )

    assert blamed <= 10


def test_evidence_fades():
    """A node that is avoided counts as slower by less and less, and after minutes not at all."""
    slowdown = seen([2.9, 3.1] * 10)

    values = [slowdown.value(now) for now in (0.0, 30.0, 60.0, 90.0, 300.0)]

    assert values == sorted(values, reverse=True)
    assert values[0] > 2.5
    assert values[-1] == 1.0


def test_a_node_that_recovers_is_cleared():
    """Normal tasks outweigh the slow ones of a minute ago."""
    slowdown = seen([3.0] * 40)
    for _ in range(40):
        slowdown.observe(1.0, 60.0)

    assert slowdown.value(60.0) == pytest.approx(1.0, abs=0.5)
    for _ in range(40):
        slowdown.observe(1.0, 90.0)
    assert slowdown.value(90.0) == 1.0


def test_a_question_about_long_ago_is_answered():
    """Evidence does not grow backwards, however long the machine has been up."""
    slowdown = Slowdown()
    for _ in range(10):
        slowdown.observe(2.0, 1e6)

    assert slowdown.value(0.0) == slowdown.value(1e6) > 1.0

"""The circuit breaker: when it opens, how it probes, how it lets requests back."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.endpoint.breaker import (
    FAILURES_IN_A_ROW,
    LAST_PROBE_S,
    STALE_S,
    Breaker,
    RequestOutcome,
)


def _breaker(jitter: float = 0.0) -> Breaker:
    return Breaker(jitter=lambda: jitter)


def _send(breaker: Breaker, outcome: RequestOutcome, now_s: float, slots: float = math.inf) -> None:
    breaker.end(breaker.start(now_s), outcome, now_s, slots=slots, said="connection refused")


def _open(breaker: Breaker, now_s: float = 0.0) -> Breaker:
    for _ in range(FAILURES_IN_A_ROW):
        _send(breaker, "failed", now_s)
    assert breaker.is_open
    return breaker


def test_it_opens_after_failures_in_a_row():
    """Five failures with no answer between them are an outage, four are not."""
    breaker = _breaker()
    for _ in range(FAILURES_IN_A_ROW - 1):
        _send(breaker, "failed", 1.0)
    assert breaker.is_closed
    assert breaker.room(1.0) == math.inf

    _send(breaker, "failed", 2.0)

    assert breaker.is_open
    assert breaker.room(2.0) == 0
    assert breaker.down_s(5.0) == 3.0
    assert breaker.last_error == "connection refused"


@pytest.mark.parametrize("answer", ["ok", "busy"])
def test_a_record_that_always_fails_does_not_open_it_while_others_are_answered(answer):
    """An answer, also one that says to come later, ends the row of failures."""
    breaker = _breaker()

    for _ in range(20):
        for _ in range(FAILURES_IN_A_ROW - 1):
            _send(breaker, "failed", 0.0)
        _send(breaker, answer, 0.0)

    assert breaker.is_closed


def test_being_busy_never_opens_it():
    """A server that turns everyone away is there."""
    breaker = _breaker()

    for _ in range(100):
        _send(breaker, "busy", 0.0)

    assert breaker.is_closed


def test_being_cancelled_says_nothing_of_the_server():
    """It neither ends a row of failures nor counts as one."""
    breaker = _breaker()
    for _ in range(FAILURES_IN_A_ROW - 1):
        _send(breaker, "failed", 0.0)
        _send(breaker, "cancelled", 0.0)
    assert breaker.is_closed

    _send(breaker, "failed", 0.0)

    assert breaker.is_open


def test_one_probe_at_a_time():
    """After a second one request may start, and no second one until the next probe is due."""
    breaker = _open(_breaker())
    assert breaker.room(0.99) == 0
    assert breaker.room(1.0) == 1

    breaker.start(1.0)

    assert breaker.room(1.0) == 0
    assert breaker.next_probe_s == pytest.approx(2.0)


def test_a_probe_without_any_answer_does_not_keep_others_from_being_sent():
    """A server that took the probe and died must be seen to be back before a deadline strikes."""
    breaker = _open(_breaker())
    breaker.start(1.0)

    breaker.start(breaker.next_probe_s)

    assert breaker.next_probe_s == pytest.approx(3.0)


def test_a_cancelled_probe_makes_way_for_another_at_once():
    """A probe that was called off has shown nothing."""
    breaker = _open(_breaker())
    generation = breaker.start(1.0)

    breaker.end(generation, "cancelled", 1.2)

    assert breaker.room(1.2) == 1


@given(jitter=st.floats(0, 1, exclude_max=True))
def test_probes_are_seconds_apart_in_a_short_outage_and_never_rare(jitter):
    """Two seconds at most during the first minute, ten ever after, and less often with time."""
    breaker = _open(_breaker(jitter))
    gaps: list[tuple[float, float]] = []
    now_s = 0.0

    while now_s < 1200:
        gaps.append((now_s, breaker.next_probe_s - now_s))
        now_s = breaker.next_probe_s
        _send(breaker, "failed", now_s)

    assert all(0.75 <= gap <= 2.0 for at_s, gap in gaps if at_s <= 60)
    assert max(gap for _, gap in gaps) <= LAST_PROBE_S
    assert gaps[-1][1] >= 0.75 * LAST_PROBE_S
    assert len(gaps) <= 260


def test_slow_start_doubles_in_each_round_and_ends_above_the_slots():
    """After a probe that went well two may run, then four, eight, and then as many as will."""
    breaker = _open(_breaker())
    _send(breaker, "ok", 1.0, slots=12)
    assert breaker.down_s(1.0) is None
    rounds = []

    while not breaker.is_closed:
        rounds.append(int(breaker.room(1.0)))
        generations = [breaker.start(1.0) for _ in range(rounds[-1])]
        assert breaker.room(1.0) == 0
        for generation in generations:
            breaker.end(generation, "ok", 1.0, slots=12)

    assert rounds == [2, 4, 8]
    assert breaker.room(1.0) == math.inf


def test_slow_start_ends_also_where_nothing_limits_requests():
    """Without slots a closed breaker is reached after a few hundred answers."""
    breaker = _open(_breaker())

    for _ in range(300):
        _send(breaker, "ok", 1.0)

    assert breaker.is_closed


def test_a_failed_probe_leaves_it_open_since_when_it_was():
    """The outage is as long as it is, whatever was tried in between."""
    breaker = _open(_breaker())

    _send(breaker, "failed", 1.0)

    assert breaker.is_open
    assert breaker.down_s(1.5) == 1.5


def test_slow_start_survives_one_bad_record_and_not_a_dead_server():
    """With four at a time four failures in a row open it again, fewer do not."""
    breaker = _open(_breaker())
    for _ in range(3):
        _send(breaker, "ok", 1.0)
    assert breaker.room(1.0) == 4

    for _ in range(3):
        _send(breaker, "failed", 2.0)
    assert not breaker.is_open
    _send(breaker, "failed", 3.0)

    assert breaker.down_s(3.5) == 0.5


def test_an_answer_that_only_says_busy_lets_one_through_and_no_more():
    """It shows that the server is there, and not that it can take more."""
    breaker = _open(_breaker())

    _send(breaker, "busy", 1.0)

    assert not breaker.is_open
    assert breaker.room(1.0) == 1


def test_failures_from_before_the_outage_say_nothing_new():
    """Requests that hung since then fail at their deadlines and do not open it again."""
    breaker = _breaker()
    hung = [breaker.start(0.0) for _ in range(64)]
    _open(breaker)
    for _ in range(300):
        _send(breaker, "ok", 11.0)

    for generation in hung:
        breaker.end(generation, "failed", 600.0)

    assert breaker.is_closed


def test_requests_from_before_the_outage_take_no_room_in_slow_start():
    """Hung requests may last for minutes; the first new ones must not wait for them."""
    breaker = _breaker()
    for _ in range(64):
        breaker.start(0.0)
    _open(breaker)

    _send(breaker, "ok", 1.0)

    assert breaker.room(1.0) == 2


def test_a_late_answer_makes_a_probe_due_and_closes_nothing():
    """It may be the last word of a server that shuts down, or show that it never was away."""
    breaker = _breaker()
    late = breaker.start(0.0)
    _open(breaker)

    breaker.end(late, "ok", 0.5)

    assert breaker.is_open
    assert breaker.room(0.5) == 1


def test_an_outage_that_nobody_watched_begins_anew():
    """After two minutes without a request the next one starts the clock of the outage again."""
    breaker = _open(_breaker())
    later_s = STALE_S + 1
    assert breaker.down_s(later_s) is None

    _send(breaker, "failed", later_s)

    assert breaker.down_s(later_s + 2) == 2.0


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["start", "ok", "busy", "failed", "cancelled"]),
            st.floats(0, 20),
            st.integers(0, 50),
        ),
        max_size=80,
    ),
    slots=st.integers(0, 40),
)
def test_it_never_blocks_for_ever(steps, slots):
    """Whatever happened: once the server answers, few answers close the breaker."""
    breaker = _breaker()
    now_s, running = 0.0, []
    for what, seconds, which in steps:
        now_s += seconds
        if what == "start" and breaker.room(now_s) >= 1:
            running.append(breaker.start(now_s))
        elif what != "start" and running:
            breaker.end(running.pop(which % len(running)), what, now_s, slots=slots)
    for generation in running:
        breaker.end(generation, "failed", now_s, slots=slots)

    for _ in range(slots + 2):
        now_s += LAST_PROBE_S
        assert breaker.room(now_s) >= 1
        _send(breaker, "ok", now_s, slots=slots)

    assert breaker.is_closed


@pytest.mark.parametrize(
    ("prepare", "text"),
    [
        (lambda breaker: None, "<Breaker closed, 0 failures in a row>"),
        (_open, "<Breaker open since 0 s, last: connection refused>"),
        (
            lambda breaker: _send(_open(breaker), "ok", 1.0),
            "<Breaker in slow start, 0/2 in flight>",
        ),
    ],
)
def test_it_tells_its_state(prepare: Callable[[Breaker], object], text):
    """Its text says what it lets through, and why."""
    breaker = _breaker()

    prepare(breaker)

    assert repr(breaker) == text

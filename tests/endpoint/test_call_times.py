"""The time of a call, divided among its parts; and what its server tells."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.endpoint.call_times import CallTimes, CallWatch, told_times
from sage_dask.testing import FakeClock

PARTS = ("turn_s", "sent_s", "backoff_s")
METRICS = {
    "queue_time_ms": 1500.0, "time_to_first_token_ms": 250.0, "generation_time_ms": 4000.0,
    "mean_itl_ms": 40.0, "tokens_per_second": 9.0,
}  # fmt: skip
TOLD = {"queue_s": 1.5, "first_token_s": 0.25, "generation_s": 4.0}


@given(st.lists(st.tuples(st.sampled_from(PARTS), st.integers(0, 1000)), min_size=1))
def test_the_parts_of_a_call_add_up_to_it(history):
    """Whatever follows what for however long, each second is in the part that it was spent on."""
    clock, times = FakeClock(), CallTimes()
    expected = dict.fromkeys(PARTS, 0)

    watch = CallWatch(times, clock)
    for part, seconds in history:
        watch.begin(part)
        clock.advance(seconds)
        expected[part] += seconds
    watch.end()

    assert {part: getattr(times, part) for part in PARTS} == expected
    assert times.turn_s + times.sent_s + times.backoff_s == clock()
    assert times.calls == 1


def test_no_moment_between_two_parts_is_lost():
    """The reading of the clock that ends a part begins the next one: a clock that never stands."""
    readings = iter([0.0, 1.0, 11.0, 111.0])
    times = CallTimes()

    watch = CallWatch(times, lambda: next(readings))
    watch.begin("sent_s")
    watch.begin("backoff_s")
    watch.end()

    assert times == CallTimes(calls=1, turn_s=1.0, sent_s=10.0, backoff_s=100.0)


def test_calls_at_the_same_time_all_count():
    """Two calls that overlap for their whole time take twice of it."""
    clock, times = FakeClock(), CallTimes()
    watches = [CallWatch(times, clock) for _ in range(2)]

    for watch in watches:
        watch.begin("sent_s")
    clock.advance(3.0)

    assert [watch.seconds for watch in watches] == [3.0, 3.0]
    for watch in watches:
        watch.end()
    assert times == CallTimes(calls=2, sent_s=6.0)


def test_the_server_s_own_times_are_told_in_seconds():
    """Milliseconds of vLLM's become our seconds; what follows from them is left out."""
    assert told_times({"metrics": METRICS}) == TOLD


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"metrics": None},
        {"metrics": "fast"},
        {"metrics": {}},
        [{"metrics": METRICS}],
        None,
    ],
)
def test_a_server_that_tells_nothing_is_no_error(body):
    """Most tell nothing; some answer with a list."""
    assert told_times(body) == {}


@pytest.mark.parametrize(
    "value", ["null", "-1", "NaN", "Infinity", "1e300", "true", '"1"', "[]", "1" * 400]
)
def test_what_is_no_time_is_left_out(value):
    """One value that makes no sense spoils no sum; the others stand."""
    body = json.loads(f'{{"metrics": {json.dumps(METRICS)}}}')
    body["metrics"]["generation_time_ms"] = json.loads(value)

    assert told_times(body) == {"queue_s": 1.5, "first_token_s": 0.25}


def test_told_times_are_summed_beside_their_share_of_what_was_sent():
    """Answers without all times are not among them, so that all sums are of the same tries."""
    times = CallTimes()

    times.note_answer(6.0, TOLD)
    times.note_answer(7.0, {})
    times.note_answer(8.0, {"queue_s": 1.0, "first_token_s": 1.0})
    times.note_answer(6.5, TOLD)

    assert times == CallTimes(
        told=2, told_sent_s=12.5, queue_s=3.0, first_token_s=0.5, generation_s=8.0
    )

"""The pieces of a batch's life in its span."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask import spent
from sage_dask.breakdown import SETUP, TRANSFER, Breakdown, BreakdownBuilder
from sage_dask.endpoint.call_times import CallTimes
from sage_dask.endpoint.usage import Usage
from sage_dask.events import BatchCommitted
from sage_dask.record import StageTiming, TaskTiming
from sage_dask.spans.layout import pieces


def breakdown_of(driver, tasks):
    """Return the parts of a batch of one record."""
    builder = BreakdownBuilder()
    latency_s = sum(driver.values())
    event = BatchCommitted(0, 1, 1, 0, 0, 0, latency_s, latency_s, tasks, {}, spent=driver)
    builder.commit(event, 1)
    return builder.breakdown()


def laid_out(driver, *tasks):
    """Return the pieces of a batch by their path."""
    latency_s = sum(driver.values())
    found = list(pieces(driver, tasks, latency_s, breakdown_of(driver, tasks)))
    assert len({piece.path for piece in found}) == len(found)
    return {piece.path: piece for piece in found}


def placed(*stages, reason="", setup_s=0.0, **waits):
    """Return a task of stages that took what is said."""
    timings = tuple(StageTiming(name, seconds, 2, 2) for name, seconds in stages)
    seconds = sum(seconds for _, seconds in stages)
    return TaskTiming("a+b", "node-3", seconds, setup_s, timings, waits, reason)


def test_pieces_lie_end_to_end_in_the_order_of_life():
    """Waits by scheduler and worker come before the stages; the driver's own at both ends."""
    task = placed(("a", 1.0), ("b", 2.0), gate=0.5, queue=0.25, setup_s=0.25, reason="free")
    driver = {spent.ADMISSION: 1.0, spent.AWAY: 5.0, spent.RETURN: 0.5, spent.COMMIT: 0.5}

    found = laid_out(driver, task)

    assert {path: (piece.start_s, piece.end_s) for path, piece in found.items()} == {
        (spent.ADMISSION,): (0.0, 1.0),
        ("task 0",): (1.0, 5.0),
        ("task 0", spent.GATE): (1.0, 1.5),
        ("task 0", spent.QUEUE): (1.5, 1.75),
        ("task 0", SETUP): (1.75, 2.0),
        ("task 0", "stage 0"): (2.0, 3.0),
        ("task 0", "stage 1"): (3.0, 5.0),
        (TRANSFER,): (5.0, 6.0),
        (spent.RETURN,): (6.0, 6.5),
        (spent.COMMIT,): (6.5, 7.0),
    }
    assert found["task 0",].attributes == {
        "host.name": "node-3",
        "sage_dask.task": "a+b",
        "sage_dask.placement.reason": "free",
    }


def test_tasks_follow_each_other():
    """Also where both have the same name, as parts of a suspect do."""
    found = laid_out({spent.AWAY: 3.0}, placed(("a", 1.0)), placed(("a", 2.0)))

    assert (found["task 0",].end_s, found["task 1",].start_s) == (1.0, 1.0)


def test_what_requests_cost_stands_under_the_names_of_opentelemetry():
    """Tokens by its conventions; the means of calls by ours, for it has none."""
    calls = CallTimes(calls=4, turn_s=2.0, sent_s=6.0)
    usage = Usage(requests=5, prompt_tokens=70, cached_tokens=7, completion_tokens=9)
    stage = StageTiming("ask", 3.0, 4, 4, usage, calls)
    task = TaskTiming("ask", "n", 3.0, 0.0, (stage,))

    attributes = laid_out({spent.AWAY: 3.0}, task)["task 0", "stage 0"].attributes

    assert attributes["gen_ai.usage.input_tokens"] == 70
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 7
    assert attributes["gen_ai.usage.output_tokens"] == 9
    assert attributes["sage_dask.calls.mean_s.slot"] == 0.5
    assert attributes["sage_dask.calls.mean_s.answer"] == 1.5
    assert attributes["sage_dask.calls.mean_s.rest_of_the_batch"] == 1.0


def test_a_batch_of_an_older_version_shows_its_stages_alone():
    """Nothing else was measured of it."""
    found = list(pieces({}, [placed(("a", 1.0))], 2.0, Breakdown()))

    assert [piece.name for piece in found] == ["task a+b", "stage a"]


SECONDS = st.floats(0.001, 100.0)


@given(
    stages=st.lists(st.tuples(st.sampled_from("abc"), SECONDS), max_size=3),
    waits=st.dictionaries(st.sampled_from([*spent.SCHEDULER_WAITS, spent.INPUTS]), SECONDS),
    between_s=SECONDS,
    ends=st.tuples(SECONDS, SECONDS, SECONDS),
)
def test_a_batch_that_went_one_way_is_filled_without_a_gap(stages, waits, between_s, ends):
    """What lies in a batch adds up to it, and what lies in a task to the task."""
    task = placed(*stages, **waits)
    away_s = task.seconds + sum(waits.values()) + between_s
    admission_s, return_s, commit_s = ends
    driver = {
        spent.ADMISSION: admission_s,
        spent.AWAY: away_s,
        spent.RETURN: return_s,
        spent.COMMIT: commit_s,
    }

    found = laid_out(driver, task)

    own = [piece for path, piece in found.items() if len(path) == 1]
    inner = [piece for path, piece in found.items() if len(path) == 2]
    assert sum(p.end_s - p.start_s for p in own) == pytest.approx(sum(driver.values()))
    assert sum(p.end_s - p.start_s for p in inner) == pytest.approx(away_s - between_s)
    assert max(piece.end_s for piece in own) == pytest.approx(sum(driver.values()))

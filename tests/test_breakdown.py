"""Where the latency went: parts that add up, whoever measured them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask import spent
from sage_dask.breakdown import (
    ANSWER,
    BACKOFF,
    DASK,
    FIRST_TOKEN,
    GENERATION,
    NETWORK,
    RESIDUE,
    REST,
    SERVER_QUEUE,
    SETUP,
    TRANSFER,
    TURN,
    Breakdown,
    BreakdownBuilder,
    explained,
)
from sage_dask.endpoint.call_times import CallTimes
from sage_dask.events import BatchCommitted, BatchKept, BatchRemembered, JobStarted
from sage_dask.record import StageTiming, TaskTiming


def started(*stages):
    """Return the start of a job with these stages."""
    return JobStarted("rag", "1", "on 1 node", ["n"], 1, {}, stages, "")


def task(*stages, seconds=None, setup_s=0.0, **waits):
    """Return a task whose stages took what is said, and no time between them."""
    timings = tuple(StageTiming(name, took, 4, 4, None, calls) for name, took, calls in stages)
    took = sum(took for _, took, _ in stages) if seconds is None else seconds
    return TaskTiming("+".join(name for name, *_ in stages), "n", took, setup_s, timings, waits)


def committed(*tasks, batch=0, num_written=4, **laps):
    """Return the event of a batch whose latency was spent as is said."""
    latency_s = sum(laps.values())
    return BatchCommitted(
        batch, num_written, num_written, 0, 0, 0, latency_s, latency_s, tasks, {}, spent=laps
    )


def seconds_of(breakdown):
    """Return the parts that took any time."""
    return {
        part.name: pytest.approx(part.seconds) for part in breakdown.parts if abs(part.seconds) > 0
    }


def of(*events):
    """Fold some batches' events."""
    builder = BreakdownBuilder()
    for event in events:
        builder.commit(event, event.num_written)
    return builder.breakdown()


def test_what_remains_of_the_time_away_was_between_processes():
    """Driver: 10 s away.  Scheduler and worker know of 9 of them; the last was on the way."""
    placed = task(
        ("embed", 3.0, None), scheduling=0.5, node=4.0, inputs=0.25, queue=1.0, packing=0.25
    )

    breakdown = of(committed(placed, admission=0.5, away=10.0, commit=1.5))

    assert breakdown.latency_s == 12.0
    assert seconds_of(breakdown) == {
        "admission": 0.5,
        "scheduling": 0.5,
        "node": 4.0,
        TRANSFER: 1.0,
        "inputs": 0.25,
        "queue": 1.0,
        "packing": 0.25,
        "embed": 3.0,
        "commit": 1.5,
    }
    assert breakdown.residue_s == pytest.approx(0.0)


def test_in_one_process_what_is_not_in_a_task_is_around_it():
    """Changing threads is all that there is between driver and stages."""
    breakdown = of(committed(task(("embed", 3.0, None)), admission=0.5, here=3.5))

    assert seconds_of(breakdown) == {"admission": 0.5, "packing": 0.5, "embed": 3.0}
    assert breakdown.residue_share == pytest.approx(0.0)


def test_time_between_the_stages_of_a_task_is_residue():
    """The task took longer than its stages together."""
    slow = task(("a", 1.0, None), ("b", 1.0, None), seconds=2.5)

    assert of(committed(slow, here=2.5)).residue_s == pytest.approx(0.5)


def test_under_dasks_own_placement_its_queue_and_the_way_are_one():
    """Nobody says how long a task waited there."""
    breakdown = of(committed(task(("embed", 1.0, None), packing=0.25), away=3.0))

    assert seconds_of(breakdown) == {DASK: 1.75, "packing": 0.25, "embed": 1.0}


def test_more_than_passed_is_a_negative_residue():
    """Clocks that disagree are shown, and never clipped."""
    breakdown = of(committed(task(("embed", 3.0, None), scheduling=0.5), away=3.0))

    assert breakdown.residue_s == pytest.approx(-0.5)
    assert breakdown.seconds(TRANSFER) == 0.0


def test_batches_count_by_the_records_they_wrote():
    """One of three records and one of one: three quarters and one quarter."""
    breakdown = of(
        committed(task(("embed", 4.0, None)), num_written=3, here=4.0),
        committed(task(("embed", 8.0, None)), num_written=1, here=8.0),
    )

    assert breakdown.num_records == 4
    assert breakdown.latency_s == pytest.approx(5.0)
    assert breakdown.seconds("embed") == pytest.approx(5.0)


def test_a_stage_that_asks_is_divided_by_its_calls():
    """Four calls of a batch; what each waited and took, and then until the last had its answer."""
    calls = CallTimes(4, 2.0, 6.0, 1.0, 4, 6.0, queue_s=1.0, first_token_s=0.5, generation_s=3.5)

    breakdown = of(committed(task(("generate", 4.0, calls)), here=4.0))

    (stage,) = (part for part in breakdown.parts if part.is_stage)
    assert {part.name: part.seconds for part in stage.parts} == {
        TURN: 0.5,
        SERVER_QUEUE: 0.25,
        FIRST_TOKEN: 0.125,
        GENERATION: 0.875,
        NETWORK: 0.25,
        BACKOFF: 0.25,
        REST: 1.75,
    }
    assert sum(part.seconds for part in stage.parts) == pytest.approx(stage.seconds)


def test_a_server_that_tells_nothing_gives_an_answer_as_a_whole():
    """From sending to the last byte is one part."""
    breakdown = of(committed(task(("ask", 4.0, CallTimes(4, 2.0, 6.0))), here=4.0))

    (stage,) = (part for part in breakdown.parts if part.is_stage)
    assert {part.name: part.seconds for part in stage.parts} == {TURN: 0.5, ANSWER: 1.5, REST: 2.0}


def test_a_call_for_a_whole_batch_is_waited_for_by_each_of_its_records():
    """One request with four texts takes three seconds, for all of them."""
    breakdown = of(committed(task(("embed", 4.0, CallTimes(1, 1.0, 3.0))), here=4.0))

    (stage,) = (part for part in breakdown.parts if part.is_stage)
    assert {part.name: part.seconds for part in stage.parts} == {TURN: 1.0, ANSWER: 3.0}


def test_calls_one_after_the_other_are_all_waited_for():
    """Two requests per record, each of a second."""
    breakdown = of(committed(task(("ask", 2.5, CallTimes(8, 0.0, 8.0))), here=2.5))

    (stage,) = (part for part in breakdown.parts if part.is_stage)
    assert {part.name: part.seconds for part in stage.parts} == {ANSWER: 2.0, REST: 0.5}


def test_a_batch_that_was_remembered_brings_its_earlier_tasks_along():
    """Its latency holds what came before the memo, and so do its parts."""
    builder = BreakdownBuilder()
    builder.start(started("ask", "use"))
    builder.remember(BatchRemembered(0, 1.0, [task(("ask", 2.0, None))]))

    builder.commit(committed(task(("use", 1.0, None)), here=3.0, commit=0.5), 4)

    assert seconds_of(builder.breakdown()) == {"ask": 2.0, "use": 1.0, "commit": 0.5}


def test_what_an_earlier_start_remembered_is_no_part_of_a_later_batch():
    """Batches are numbered anew, and the latency counts from the later reading."""
    builder = BreakdownBuilder()
    builder.start(started("ask", "use"))
    builder.remember(BatchRemembered(0, 1.0, [task(("ask", 2.0, None))]))

    builder.start(started("ask", "use"))
    builder.commit(committed(task(("use", 1.0, None)), here=1.0), 4)

    assert seconds_of(builder.breakdown()) == {"use": 1.0}


def test_the_commit_that_is_told_later_counts_too():
    """It adds to the latency and to its part."""
    builder = BreakdownBuilder()
    builder.commit(committed(here=1.0, commit=0.25), 4)

    builder.keep(BatchKept(0, 0.5), 4)

    breakdown = builder.breakdown()
    assert (breakdown.latency_s, breakdown.seconds("commit")) == (1.75, 0.75)


def test_events_of_older_versions_have_no_breakdown():
    """They do not say what latency was spent on."""
    old = BatchCommitted(0, 4, 4, 0, 0, 0, 2.0, 2.0, [task(("embed", 1.0, None))], {})

    assert of(old) == Breakdown()


def test_batches_that_wrote_nothing_count_for_nothing():
    """As for the mean latency."""
    assert of(committed(num_written=0, here=1.0)) == Breakdown()


numbers = st.floats(0.0, 100.0)
waits = st.dictionaries(
    st.sampled_from([*spent.SCHEDULER_WAITS, spent.INPUTS, spent.QUEUE, spent.PACKING, spent.LOST]),
    numbers,
)
tasks = st.builds(
    lambda stages, setup_s, waits: task(*stages, setup_s=setup_s, **waits),
    st.lists(st.tuples(st.sampled_from("abc"), numbers, st.none()), min_size=1, max_size=3),
    numbers,
    waits,
)
batches = st.builds(
    lambda tasks, laps, num_written: committed(*tasks, num_written=num_written, **laps),
    st.lists(tasks, max_size=3),
    st.dictionaries(st.sampled_from(["admission", "away", "here", "return", "commit"]), numbers),
    st.integers(0, 50),
)


@given(st.lists(batches, max_size=5))
def test_parts_add_up_to_the_latency(events):
    """Whatever is told, in whatever contradiction: the residue closes the account."""
    breakdown = of(*events)

    total = sum(part.seconds for part in breakdown.parts)
    assert total == pytest.approx(breakdown.latency_s, abs=1e-6)


def test_set_up_on_a_late_worker_is_a_part():
    """Operators that were made ready within the batch's time."""
    breakdown = of(committed(task(("a", 1.0, None), setup_s=2.0, scheduling=0.0), away=3.0))

    assert breakdown.seconds(SETUP) == 2.0


def test_every_part_is_explained():
    """Whatever a breakdown can name has a line of its own that says what it is."""
    calls = CallTimes(4, 1.0, 8.0, 1.0, 2, 4.0, 1.0, 1.0, 1.0)
    breakdown = of(
        committed(
            task(("a", 20.0, calls), setup_s=1.0, scheduling=1.0, node=1.0, gate=1.0, lost=1.0),
            away=40.0,
        )
    )

    said = dict(explained())

    for part in breakdown.parts:
        assert said["STAGE" if part.is_stage else part.name] == part.meaning
        assert all(said[f"  {each.name}"] == each.meaning for each in part.parts)


def test_a_stage_may_bear_the_name_of_something_else():
    """What is asked for of the two is what is given."""
    breakdown = of(committed(task((spent.COMMIT, 3.0, None)), admission=0.5, here=3.0, commit=1.5))

    assert breakdown.beside_stages(spent.COMMIT) == 1.5
    assert breakdown.beside_stages(spent.RETURN) == 0.0
    assert breakdown.parts_of(spent.COMMIT) == ()


def test_a_stage_called_residue_is_none():
    """What nobody accounts for is not what such a stage took."""
    breakdown = of(committed(task((RESIDUE, 3.0, None), seconds=3.5), here=3.5))

    assert breakdown.beside_stages(RESIDUE) == breakdown.residue_s == pytest.approx(0.5)

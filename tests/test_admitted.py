"""What the driver keeps of a batch that is on its way."""

from __future__ import annotations

from sage_dask.admitted import admitted
from sage_dask.intake import Intake, Places
from sage_dask.record import Batch, Failure

UNREADABLE = Failure("line-3", "read", "JSONDecodeError", "no", record={"raw": "{"})


def test_unreadable_rows_stay_behind():
    """They do not travel, and are there when the batch is back."""
    batch = Batch(0, ["a", "b"], [{"x": 1}, {"x": 2}], [UNREADABLE])

    kept = admitted(Intake(batch, Places()), 7.0)

    assert batch.failures == []
    assert kept.failures == [UNREADABLE]
    assert (kept.num_sent, kept.num_read, kept.admitted_s) == (2, 3, 7.0)


def test_failures_get_the_record_as_it_was_read():
    """A child's failure gets its root's record, and one that has a record keeps it."""
    kept = admitted(Intake(Batch(0, ["a", "b"], [{"x": 1}, {"x": 2}]), Places()), 0.0)
    failures = [
        Failure("b", "map", "ValueError", "no"),
        Failure("a/1", "map", "ValueError", "no", root="a"),
        UNREADABLE,
    ]

    assert [each.record for each in kept.with_inputs(failures)] == [
        {"x": 2},
        {"x": 1},
        {"raw": "{"},
    ]


def test_inputs_are_unpacked_only_where_a_failure_needs_them():
    """Failures that all have their records ask for nothing."""
    kept = admitted(Intake(Batch(0, ["a"], [{}]), Places()), 0.0)
    asked = []
    kept.inputs = lambda: asked.append(1) or ([], [])

    assert kept.with_inputs([UNREADABLE]) == [UNREADABLE]
    assert asked == []


def test_of_a_begun_batch_the_inputs_are_those_that_were_read():
    """It holds what became of its records since, and its failures are its own."""
    begun = Failure("b", "ask", "ValueError", "no")
    batch = Batch(0, ["a/0", "a/1"], [{"y": 1}, {"y": 2}], [begun], num_expanded=1, start=1)
    places = Places(["a", "b"], [4, 5], [b"1", b"2"])

    kept = admitted(Intake(batch, places, [{"x": 1}, {"x": 2}]), 0.0)

    assert batch.failures == [begun]
    assert (kept.failures, kept.num_sent, kept.num_read) == ([], 2, 2)
    assert [each.record for each in kept.with_inputs([begun])] == [{"x": 2}]

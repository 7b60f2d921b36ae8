"""Records, batches and failures: the account they keep."""

from __future__ import annotations

import pickle

import pytest

from sage_dask.record import Batch, Failure, Position


def test_a_batch_accounts_for_every_record_it_set_out_with():
    """Ten set out: one failed, two were dropped, and three of the others became seven."""
    batch = Batch(
        0,
        ["id"] * 11,
        [{}] * 11,
        [Failure("f", "s", "E", "m")],
        filtered=["l", "m"],
        num_expanded=4,
    )

    assert batch.num_read == 10
    assert len(batch) == 11


def test_a_batch_tells_its_state_but_not_its_records():
    """Logs and dashboards show counts; records may be private, and are large."""
    batch = Batch(7, ["a"], [{"text": "private"}], [Failure("b", "s", "E", "m")])

    assert repr(batch) == "<Batch 7: 1 records, 1 failed, 0 filtered, 0 expanded>"


def test_batches_do_not_share_their_lists():
    """What one batch counts is not counted by the next."""
    first, second = Batch(0, [], []), Batch(1, [], [])

    first.failures.append(Failure("a", "s", "E", "m"))
    first.roots["a/0"] = "a"

    assert (second.failures, second.roots) == ([], {})


def test_a_batch_travels_whole():
    """Nothing of the account is lost between processes."""
    batch = Batch(
        3, ["a/1"], [{"x": 1}], [Failure("b", "s", "E", "m", root="r")], ["c"], 2, [], {"a/1": "a"}
    )

    back = pickle.loads(pickle.dumps(batch))

    assert back == batch


@pytest.mark.parametrize(
    ("position", "where"),
    [
        (None, {}),
        (Position(3), {"line": 3}),
        (Position(3, 0), {"line": 3, "byte_offset": 0}),
    ],
    ids=["nowhere", "a row", "the first byte"],
)
def test_a_failure_is_a_row_that_can_be_a_source_again(position, where):
    """The row tells what failed where and why, and carries the record as it was read."""
    failure = Failure("a", "embed", "ValueError", "no", 2, record={"x": 1}, position=position)

    assert failure.as_record() == {
        "id": "a",
        "stage": "embed",
        "error": "ValueError",
        "message": "no",
        "attempts": 2,
        **where,
        "input": {"x": 1},
    }

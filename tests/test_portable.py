"""Records that can not be sent to another process fail where they are."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from sage_dask.portable import fail_stranded
from sage_dask.record import Batch


class TakesTwoError(Exception):
    """Can be pickled and not read back, as exceptions with arguments of their own."""

    def __init__(self, first, second):
        super().__init__(first)


def batch_of(*values):
    """Return a batch with one record per value, called "0", "1", ..."""
    ids = [str(number) for number in range(len(values))]
    return Batch(0, ids, [{"x": value} for value in values], roots={"1": "root"})


@pytest.mark.parametrize(
    "value",
    [threading.Lock(), (n for n in range(3)), TakesTwoError(1, 2)],
    ids=["lock", "generator", "unreadable"],
)
def test_the_culprit_fails_and_the_others_go_on(value):
    """One record of three stays behind, with its stage, its root and the name of its field."""
    batch = batch_of(1, value, 3)

    fail_stranded(batch, "make")

    assert (batch.ids, batch.records) == (["0", "2"], [{"x": 1}, {"x": 3}])
    (failure,) = batch.failures
    assert (failure.id, failure.stage, failure.root) == ("1", "make", "root")
    assert failure.message.startswith(f"field 'x' ({type(value).__name__}) can not be sent")


def test_everything_that_can_be_read_back_may_go():
    """Arrays, bytes, NaN and records that hold themselves are fit to travel."""
    circular: dict[str, object] = {}
    circular["me"] = circular
    batch = batch_of(np.arange(3), b"bytes", float("nan"), circular, {1, 2})

    fail_stranded(batch, "make")

    assert len(batch) == 5
    assert batch.failures == []

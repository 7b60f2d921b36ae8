"""What is kept of exceptions, and how they travel."""

from __future__ import annotations

import pickle

import pytest

from sage_dask.errors import StopRun
from sage_dask.fault import CarriedError, Fault, carried, fault_of


class UnreadableError(Exception):
    """Can be pickled, but not read back; knows how often it was tried."""

    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")
        self.attempts = 4


def test_a_fault_survives_the_way_to_another_process():
    """Name, message and tries are those of the exception, which itself could not be read back."""
    error = UnreadableError(503, "busy")

    arrived = pickle.loads(pickle.dumps(carried(error)))

    assert isinstance(arrived, CarriedError)
    assert fault_of(arrived) == fault_of(error) == Fault("UnreadableError", "503: busy", 4)
    assert str(arrived) == "UnreadableError: 503: busy"


@pytest.mark.parametrize("order", [StopRun, KeyboardInterrupt])
def test_orders_stay_orders(order):
    """What ends a run ends it from another process, too."""
    arrived = pickle.loads(pickle.dumps(carried(order("enough"))))

    assert type(arrived) is order


def test_a_stop_keeps_its_words():
    """The reason for which a run is ended arrives."""
    assert str(carried(StopRun("key refused"))) == "key refused"

"""Deadlines say which of them struck and how to raise it."""

from __future__ import annotations

import math

import pytest

from sage_dask.endpoint.deadlines import Deadlines
from sage_dask.errors import PlanError


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("connect", "no connection within 1 s (raise connect_s to wait longer)"),
        ("first_byte", "no first byte of the answer within 2 s (raise first_byte_s"),
        ("idle", "no further byte of the answer within 3 s (raise idle_s"),
        ("total", "no whole answer within 4.5 s (raise timeout_s"),
    ],
)
def test_each_deadline_is_told_with_its_value_and_its_parameter(part, told):
    """Whoever reads the message knows what to change, and from what."""
    deadlines = Deadlines(connect_s=1, first_byte_s=2, idle_s=3, total_s=4.5)

    assert deadlines.told(part).startswith(told)


def test_the_first_byte_has_the_total_time_unless_told():
    """An answer that is not streamed begins when it is complete."""
    assert Deadlines(total_s=7.0).limit_s("first_byte") == 7.0


@pytest.mark.parametrize("name", ["connect_s", "first_byte_s", "idle_s", "total_s"])
@pytest.mark.parametrize("value", [0, -1.0, math.nan])
def test_a_deadline_that_never_or_always_strikes_is_refused(name, value):
    """Each number must be more than nothing."""
    with pytest.raises(PlanError, match=f"{name}={value}"):
        Deadlines(**{name: value})

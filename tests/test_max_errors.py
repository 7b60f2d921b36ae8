"""How many failures are too many."""

from __future__ import annotations

import pytest

from sage_dask.errors import PlanError
from sage_dask.max_errors import LEAST_READ, MaxErrors


@pytest.mark.parametrize(
    ("limit", "num_failed", "num_read", "is_end", "is_excess"),
    [
        (None, 10**6, 10**6, True, False),
        (0, 0, 5, False, False),
        (0, 1, 5, False, True),
        (3, 3, 3, True, False),
        (3, 4, 10**6, False, True),
        (0.1, 10, LEAST_READ, False, False),
        (0.1, 11, LEAST_READ, False, True),
        (0.1, 99, LEAST_READ - 1, False, False),
        (0.1, 99, LEAST_READ - 1, True, True),
        (0.5, 1, 2, True, False),
    ],
)
def test_more_than_the_limit_is_too_many(limit, num_failed, num_read, is_end, is_excess):
    """A number counts at once, a share only of enough records or of all of them."""
    told = MaxErrors(limit).excess(num_failed, num_read, is_end=is_end)

    assert (told is not None) is is_excess


def test_what_is_told_names_counts_limit_and_mend():
    """Whoever reads it knows how bad it is, and how to go on."""
    told = MaxErrors(0.01).excess(1200, 20000, is_end=False)

    assert told == (
        "1,200 of 20,000 records failed, more than max_errors=0.01 allows; mend their cause and "
        "run again with retry_failed, or raise max_errors"
    )


@pytest.mark.parametrize("limit", [-1, 0.0, 1.0, 1.5, -0.1, float("nan"), True, "10", "1%"])
def test_what_is_neither_a_number_nor_a_share_is_refused(limit):
    """A share of one would be all of them, and a share of nothing is said as 0."""
    with pytest.raises(PlanError, match="neither a number of records"):
        MaxErrors(limit)

"""Options that no server could have are refused by name."""

from __future__ import annotations

import pytest

from sage_dask.cluster.timed_server import TimedOptions
from sage_dask.errors import PlanError


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seats": 0}, "seats=0 must be 1 or more"),
        ({"latency_s": -1.0}, "latency_s=-1.0 must be 0 or more"),
        ({"spread": "wide"}, "spread='wide' is none of 'normal', 'uniform'"),
        ({"kv_tokens": 100}, "kv_tokens=100 can not hold one sequence of max_model_len=8192"),
    ],
)
def test_impossible_options_are_refused(fields, message):
    """The message has the field, its value and what would do."""
    with pytest.raises(PlanError, match=message):
        TimedOptions(**fields)


def test_the_key_is_not_shown():
    """Options are printed and logged."""
    assert "canary" not in repr(TimedOptions(api_key="canary"))

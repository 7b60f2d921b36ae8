"""What a run asks of a cluster."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from sage_dask.errors import PlanError
from sage_dask.schedule import Scheduling, finite


def test_nothing_said_asks_for_nothing():
    """The cluster's own policy, an even share, and no limits."""
    asked = Scheduling()

    assert (asked.policy, asked.priority, asked.weight, asked.record_priority) == (None, 0, 1, None)
    assert (asked.gates, asked.quota, asked.is_stock) == ({}, {}, False)


def test_only_the_name_of_dask_is_stock_placement():
    """A policy of ours, by name or as an object, is not Dask's."""
    assert Scheduling("dask").is_stock
    assert not any(Scheduling(policy).is_stock for policy in ("spread", object(), None))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gates": {"llm": 0}}, "gate 'llm' is given 0 slots, and a positive whole number"),
        ({"gates": {"disk": 1, "llm": 1.5}}, r"gate 'llm' is given 1\.5 slots"),
        ({"gates": {"llm": True}}, "gate 'llm' is given True slots"),
        ({"quota": {"LLM": 0}}, "the quota of 'LLM' is 0, and a positive number is wanted"),
        ({"quota": {"LLM": "2"}}, "the quota of 'LLM' is '2'"),
        ({"quota": {"GPU": 1, "LLM": float("inf")}}, "the quota of 'LLM' is inf"),
        ({"weight": 0}, "weight=0 must be a positive number"),
        ({"weight": -1.5}, r"weight=-1\.5 must be a positive number"),
        ({"weight": float("nan")}, "weight=nan must be a positive number"),
        ({"priority": float("inf")}, "priority=inf must be a finite number"),
        ({"priority": "high"}, "priority='high' must be a finite number"),
        ({"record_priority": 5}, "record_priority=5 must be the name of a field"),
    ],
)
def test_amounts_that_can_not_be_are_refused(options, message):
    """What is no amount, no share and no name is told with its value."""
    with pytest.raises(PlanError, match=message):
        Scheduling(**options)


def test_odd_amounts_that_can_be_are_taken():
    """Priorities may be negative, shares and quotas broken numbers."""
    asked = Scheduling(priority=-3, weight=0.25, quota={"GPU": 0.5}, gates={"llm": 1})

    assert (asked.priority, asked.weight, asked.quota) == (-3, 0.25, {"GPU": 0.5})


@pytest.mark.parametrize("value", [3, 3.0, np.float32(3), np.int64(3), Fraction(6, 2)])
def test_numbers_of_all_kinds_are_finite(value):
    """What computes like a number is one."""
    assert finite(value) == 3.0


@pytest.mark.parametrize(
    "value",
    [None, True, "3", b"3", [3], float("nan"), float("-inf"), 10**400, 3j, np.bool_(1), Decimal(3)],
    ids=repr,
)
def test_what_is_no_finite_number_is_none(value):
    """Texts are not read as numbers, and booleans are not taken for 0 and 1."""
    assert finite(value) is None


class Mine:
    """A policy of a user's own."""

    name = "mine"


@pytest.mark.parametrize(
    ("policy", "name"), [(None, ""), ("pack", "pack"), (Mine(), "mine"), (Mine, "mine"), (3, "int")]
)
def test_a_policy_is_told_by_its_name(policy, name):
    """Reports say what was asked for; nothing is nothing."""
    assert Scheduling(policy=policy).policy_name == name

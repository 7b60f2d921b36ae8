"""How much a job may spend, and when it stops."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.budget import Budget, Spending
from sage_dask.endpoint.usage import Usage
from sage_dask.errors import PlanError
from sage_dask.operators import Generate
from sage_dask.operators.basic import Map
from sage_dask.stage import Operator, Stage


class Asking(Operator):
    """Sends requests, or says so."""

    endpoints = ("http://127.0.0.1:1/v1",)

    def __init__(self, price=None):
        self.price = price

    def process_batch(self, records):
        return records


@pytest.mark.parametrize("name", ["max_cost", "max_tokens"])
@pytest.mark.parametrize("limit", [0, -1, math.nan, math.inf, True, "5"])
def test_a_limit_that_is_no_amount_is_refused(name, limit):
    """A budget of nothing would read nothing, and one that is no number would never be reached."""
    with pytest.raises(PlanError, match=f"{name}={limit!r} must be a positive number"):
        Budget(**{name: limit})


def test_a_limit_in_money_needs_prices():
    """Requests without a price would count as free, so the limit could never be reached."""
    budget = Budget(max_cost=5.0)

    with pytest.raises(PlanError, match="max_cost=5 is given, but stage 'ask' sends requests"):
        budget.check([Stage("plain", Map(dict)), Stage("ask", Asking())])
    budget.check(
        [
            Stage("plain", Map(dict)),
            Stage("ask", Asking({"prompt": 1.0})),
            Stage("quote", Generate()),
        ]
    )
    Budget(max_tokens=5).check([Stage("ask", Asking())])


def test_reading_ends_when_the_budget_is_spent():
    """The limit that is reached first is named, and stays."""
    spending = Spending(Budget(max_cost=1.0, max_tokens=100))
    spending.sent(2)
    before = spending.may_send()

    spending.back(2)
    spending.spent([Usage(prompt_tokens=90, completion_tokens=10, cost=0.2)])

    assert before
    assert not spending.may_send()
    assert spending.reached == "max_tokens=100"
    assert spending.statistics().num_back == 2


def test_what_is_under_way_counts_as_what_came_before_it():
    """Ten records away at the mean of those that are back fill the budget before they are back."""
    spending = Spending(Budget(max_cost=2.0))
    spending.sent(10)
    spending.back(10)
    spending.spent([Usage(cost=0.6), None, Usage(cost=0.4)])
    with_none_away = spending.may_send()
    spending.sent(9)
    with_nine_away = spending.may_send()
    spending.sent(1)

    assert (with_none_away, with_nine_away) == (True, True)
    assert not spending.may_send()
    assert spending.usage.cost == 1.0


def test_a_job_that_ended_its_reading_does_not_begin_again():
    """Runners take the end of reading as final, also where the rest cost less than expected."""
    spending = Spending(Budget(max_tokens=100))
    spending.sent(1)
    spending.back(1)
    spending.spent([Usage(prompt_tokens=60)])
    spending.sent(1)
    at_the_limit = spending.may_send()

    spending.back(1)
    spending.spent([Usage(prompt_tokens=1)])

    assert not at_the_limit
    assert not spending.may_send()


def test_without_a_budget_nothing_ends():
    """Spending is counted, and no amount of it is too much."""
    spending = Spending(Budget())
    spending.sent(1)
    spending.back(1)
    spending.spent([Usage(prompt_tokens=10**12, cost=1e9)])

    assert spending.may_send()
    assert spending.told() == "1,000,000,000.00 and 1,000,000,000,000 tokens"


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=60),
    st.integers(1, 200),
    st.integers(1, 5),
)
def test_no_more_is_overspent_than_what_was_under_way(costs, limit, window):
    """Whatever batches cost, the excess is at most that of the batches that were away together."""
    spending = Spending(Budget(max_tokens=limit))
    away, sent = [], 0
    most_away = 0
    while sent < len(costs) and spending.may_send():
        spending.sent(1)
        away.append(costs[sent])
        sent += 1
        most_away = sum(away)
        if len(away) == window:
            spending.back(1)
            spending.spent([Usage(prompt_tokens=away.pop(0))])
    spent_at_the_end = spending.usage.tokens
    for tokens in away:
        spending.back(1)
        spending.spent([Usage(prompt_tokens=tokens)])

    assert spent_at_the_end < limit + 50
    assert spending.usage.tokens - limit <= max(most_away, 50)

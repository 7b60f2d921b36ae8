"""Prices per million tokens, and the bills they make."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.endpoint.prices import Prices
from sage_dask.endpoint.usage import Usage
from sage_dask.errors import PlanError


def test_prices_are_per_million_tokens():
    """Two million prompt tokens and half a million completion tokens cost what is printed."""
    prices = Prices.of({"prompt": 0.15, "completion": 0.60})

    cost = prices.cost(Usage(prompt_tokens=2_000_000, completion_tokens=500_000))

    assert cost == pytest.approx(0.30 + 0.30)


def test_cached_tokens_have_a_price_of_their_own():
    """Tokens found in the server's cache are billed at the cached price, the others in full."""
    usage = Usage(prompt_tokens=1_000_000, cached_tokens=400_000)

    assert Prices.of({"prompt": 1.0, "cached": 0.1}).cost(usage) == pytest.approx(0.64)
    assert Prices.of({"prompt": 1.0}).cost(usage) == pytest.approx(1.0)
    assert Prices.of({"prompt": 1.0, "cached": 0}).cost(usage) == pytest.approx(0.6)


def test_more_cached_tokens_than_tokens_are_no_discount():
    """A server that miscounts never makes a bill negative."""
    usage = Usage(prompt_tokens=1_000_000, cached_tokens=9_000_000)

    assert Prices.of({"prompt": 1.0, "cached": 0.5}).cost(usage) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("price", "says"),
    [
        ({"promt": 1.0}, "unknown key 'promt'.*did you mean 'prompt'"),
        ({"prompt": -0.1}, r"'prompt' is -0\.1, and a number from 0 up is wanted"),
        ({"completion": "0.6"}, "'completion' is '0.6'"),
        ({"prompt": True}, "'prompt' is True"),
        ({"prompt": math.nan}, "'prompt' is nan"),
        ({"prompt": math.inf}, "'prompt' is inf"),
    ],
)
def test_what_is_no_price_is_refused(price, says):
    """A mistake is told with the value, while planning."""
    with pytest.raises(PlanError, match=says):
        Prices.of(price)


counts = st.integers(0, 10**9)
amounts = st.builds(
    lambda prompt, cached, completion: Usage(
        prompt_tokens=prompt + cached, cached_tokens=cached, completion_tokens=completion
    ),
    counts,
    counts,
    counts,
)


@given(amounts, amounts)
def test_bills_add_up(one, other):
    """The bill of a sum is the sum of the bills, so records, stages and jobs agree."""
    prices = Prices.of({"prompt": 3.0, "completion": 15.0, "cached": 0.3})
    total = Usage()
    total.add(one)
    total.add(other)

    assert prices.cost(total) == pytest.approx(prices.cost(one) + prices.cost(other))

"""Balance and nearest-rank latencies."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.metrics import Latencies, balance, in_short, money, without_nan


def test_equal_amounts_are_even():
    """Nodes with the same amount score exactly one, however many they are."""
    assert balance([7, 7, 7]) == 1.0
    assert balance([3]) == 1.0


def test_an_idle_node_counts_as_zero():
    """One of two nodes doing everything has deviation equal to the mean: zero."""
    assert balance([10, 0]) == 0.0


def test_a_lopsided_cluster_scores_below_zero_and_is_not_clipped():
    """One busy node of sixteen is 1 - sqrt(15), printed as it is."""
    assert balance([16, *[0] * 15]) == pytest.approx(1 - math.sqrt(15))


def test_balance_of_no_nodes_is_refused():
    """No node at all has no balance, and the message says what to pass."""
    with pytest.raises(ValueError, match="one amount per node"):
        balance([])


def test_percentiles_are_values_that_occurred():
    """Nearest rank of 1..100: P50 is the 50th value and P99 the 99th, nothing between."""
    latencies = Latencies()
    for value in range(100, 0, -1):
        latencies.add(float(value), 1)

    summary = latencies.summary()

    assert (summary.p50_s, summary.p99_s, summary.mean_s) == (50.0, 99.0, 50.5)
    assert latencies.percentile(100) == 100.0


def test_a_batch_counts_once_per_record():
    """Ninety-nine records at one second outweigh one at nine, up to P99."""
    latencies = Latencies()
    latencies.add(1.0, 99)
    latencies.add(9.0, 1)

    assert latencies.percentile(99) == 1.0
    assert latencies.percentile(99.01) == 9.0
    assert latencies.summary().num_records == 100


def test_nothing_measured_is_not_a_number():
    """An empty run has no latency, rather than one of zero."""
    assert math.isnan(Latencies().summary().p50_s)


@given(
    st.lists(st.tuples(st.floats(0, 1e3), st.integers(1, 9)), min_size=1, max_size=30),
    st.integers(1, 100),
)
def test_weighted_percentiles_equal_those_of_the_plain_list(batches, percent):
    """Compact storage changes no percentile: it equals the one of all records spelled out."""
    latencies = Latencies()
    for seconds, count in batches:
        latencies.add(seconds, count)
    spelled_out = sorted(seconds for seconds, count in batches for _ in range(count))

    rank = -(-percent * len(spelled_out) // 100)

    assert latencies.percentile(percent) == spelled_out[rank - 1]


@given(st.floats(0, 1e12))
def test_counts_in_short_are_close_and_short(number):
    """At most four digits and a unit, within a twentieth of the count or half of one."""
    text = in_short(number)
    unit = {"k": 1e3, "M": 1e6, "G": 1e9}.get(text[-1], 1.0)

    assert len(text.strip("kMG")) <= 4
    assert float(text.strip("kMG")) * unit == pytest.approx(number, rel=0.05, abs=0.5)


@given(st.floats(1e-12, 1e6))
def test_money_keeps_two_digits_of_small_amounts(cost):
    """An amount is never rounded to nothing: a hundredth or three digits, whichever is finer."""
    assert float(money(cost).replace(",", "")) == pytest.approx(cost, abs=min(0.005, 0.006 * cost))


def test_what_is_no_number_is_none_wherever_it_stands():
    """Whole and broken numbers, texts and None stay; NaN and infinity go, also within."""
    plain = {"a": [1, math.nan, {"b": (math.inf, "nan", None, 0.5)}]}

    assert without_nan(plain) == {"a": [1, None, {"b": [None, "nan", None, 0.5]}]}

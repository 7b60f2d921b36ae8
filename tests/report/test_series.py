"""How a job went over time, in bounded memory."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.events import BatchCommitted, BatchKept
from sage_dask.report.series import MOST_SLOTS, SeriesBuilder
from tests.report.building import START


def batch(number, elapsed_s, *, written=4, failed=0, latency_s=1.0, is_kept=True):
    """Return the commit of a batch."""
    return BatchCommitted(
        number, written + failed, written, failed, 0, 0, latency_s, elapsed_s, [], {},
        is_kept=is_kept,
    )  # fmt: skip


def series_of(*events, most=MOST_SLOTS):
    """Return the series of some events."""
    builder = SeriesBuilder()
    for event in events:
        builder.add(event)
    return builder.series(most)


@given(
    st.lists(st.tuples(st.floats(0.001, 1e7), st.integers(0, 9), st.integers(0, 2)), max_size=60),
    st.integers(1, MOST_SLOTS),
)
def test_nothing_is_lost_however_long_a_run_is(batches, most):
    """Points are few, follow one another without a gap, and hold all records."""
    events = [batch(0, at, written=w, failed=f) for at, w, f in sorted(batches)]

    points = series_of(START, *events, most=most).points

    assert len(points) <= most
    assert sum(point.num_written for point in points) == sum(w for _, w, _ in batches)
    assert sum(point.num_failed for point in points) == sum(f for _, _, f in batches)
    assert [p.to_s for p in points[:-1]] == pytest.approx([p.from_s for p in points[1:]])
    assert all(point.rate >= 0 for point in points)


def test_a_long_run_is_kept_in_a_bounded_number_of_slots():
    """A day of batches leaves no more to be kept than ten minutes."""
    builder = SeriesBuilder()

    for number in range(20_000):
        builder.add(batch(number, 4.0 * number, latency_s=1.0 + number % 7))

    assert len(builder.series().points) <= MOST_SLOTS


def test_rates_are_records_by_time():
    """A record each tenth of a second is ten a second, also where the last slot is part of one."""
    points = series_of(START, *(batch(n, 0.1 * n, written=1) for n in range(1, 101)), most=5).points

    assert [point.rate for point in points] == pytest.approx([10.0] * 5, rel=0.1)
    assert points[-1].to_s == 10.0


def test_starts_follow_one_another():
    """The pause between two starts takes no time, and where the second began is marked."""
    series = series_of(START, batch(0, 2.0), START, batch(0, 1.0))

    assert series.starts_s == (2.0,)
    assert series.points[-1].to_s == 3.0


def test_latency_counts_where_a_batch_was_written_and_with_its_commit():
    """A batch whose commit is told later is as slow as both were."""
    series = series_of(
        START,
        batch(0, 1.0, latency_s=1.0, is_kept=False),
        batch(1, 9.0, latency_s=5.0),
        BatchKept(0, 1.0),
        most=2,
    )

    assert [point.p99_s for point in series.points] == pytest.approx([2.0, 5.0], rel=0.01)


def test_a_commit_that_nobody_told_of_still_counts():
    """The run was killed just then, and its last batch had a latency."""
    series = series_of(START, batch(0, 1.0, latency_s=3.0, is_kept=False))

    assert series.points[-1].p50_s == pytest.approx(3.0, rel=0.01)
    assert series.distribution[-1] == (pytest.approx(3.0, rel=0.01), 1.0)


def test_stretches_without_a_record_have_no_latency():
    """Where nothing was written the rate is zero and the percentile is no number."""
    points = series_of(START, batch(0, 1.0), batch(1, 9.0), most=8).points

    assert math.isnan(points[4].p50_s)
    assert points[4].rate == 0.0


def test_the_distribution_ascends_to_everybody():
    """Each latency stands with the share of records that took no longer."""
    series = series_of(START, *(batch(n, n + 1.0, latency_s=1.0 + n) for n in range(4)))

    assert [share for _, share in series.distribution] == [0.25, 0.5, 0.75, 1.0]
    assert [s for s, _ in series.distribution] == pytest.approx([1, 2, 3, 4], rel=0.01)


def test_a_run_that_did_nothing_has_no_points():
    """Neither points nor distribution; nothing is made up."""
    series = series_of(START)

    assert (series.points, series.starts_s, list(series.distribution)) == ((), (), [])

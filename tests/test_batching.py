"""The steering of batch sizes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sage_dask.batching import BatchSize
from sage_dask.plan import Batching


def settled(seconds_per_record: float, batching: Batching, rounds: int = 40) -> int:
    """Return the size after some batches of records that each take the same time."""
    size = BatchSize(batching)
    for _ in range(rounds):
        size.observe(size.records(), size.records() * seconds_per_record)
    return size.records()


def test_the_size_settles_where_a_task_takes_its_target():
    """Records of 10 ms and a target of 200 ms make batches of twenty."""
    assert settled(0.010, Batching(target_task_s=0.2)) == 20


def test_records_slower_than_the_target_travel_alone():
    """A record that takes a second is a batch by itself, and never none."""
    assert settled(1.0, Batching(target_task_s=0.2)) == 1


def test_cheap_records_stop_at_the_limit():
    """Records that take no time fill batches to the largest size and not beyond."""
    assert settled(0.0, Batching(largest=512)) == 512


def test_growth_is_four_fold_at_most():
    """One lucky measurement of four records leads to sixteen, not to thousands."""
    size = BatchSize(Batching(first=4))

    size.observe(4, 1e-6)

    assert size.records() == 16


def test_measurements_of_old_small_batches_do_not_hold_growth_back():
    """Batches sent before the last growth leave the present size alone."""
    size = BatchSize(Batching(first=4))
    size.observe(4, 1e-6)
    size.observe(16, 1e-6)

    size.observe(4, 1e-6)

    assert size.records() == 64


def test_a_task_over_its_target_shrinks_the_next_batch():
    """A batch that took too long halves the distance to the size that would not."""
    size = BatchSize(Batching(first=100, target_task_s=0.2))

    size.observe(100, 2.0)

    assert size.records() == 55


def test_a_size_chosen_by_the_user_stays():
    """Nothing measured moves a fixed size."""
    size = BatchSize(Batching(fixed=7))

    size.observe(7, 100.0)
    size.observe_bytes(7, 1 << 30)

    assert size.records() == 7


def test_large_records_are_limited_by_bytes():
    """Records of 1 MiB travel eight at a time, however quick they are."""
    size = BatchSize(Batching(first=4096, largest_bytes=8 << 20))

    size.observe_bytes(4, 4 << 20)

    assert size.records() == 8


@given(
    st.lists(st.tuples(st.integers(0, 5000), st.floats(0, 100), st.integers(0, 1 << 30))),
    st.integers(1, 64),
)
def test_the_size_stays_within_its_bounds(measurements, first):
    """Whatever is measured, there is always a next batch and it is never too large."""
    size = BatchSize(Batching(first=first, largest=256))

    for num_records, seconds, num_bytes in measurements:
        size.observe(num_records, seconds)
        size.observe_bytes(num_records, num_bytes)

        assert 1 <= size.records() <= 256

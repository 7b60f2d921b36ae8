"""Figures of one run."""

from __future__ import annotations

from sage_dask.experiments.llm.result import Result


def a_result(**facts):
    """Return a run of ten records in two seconds."""
    usual = {"read": 10, "written": 8, "failed": 2, "makespan_s": 2.0, "cpu_s": 0.02, "sent": 12}
    return Result(**{**usual, **facts})


def test_throughput_and_cpu_are_of_what_was_written():
    """Failed records count for neither."""
    result = a_result()

    assert result.throughput == 4.0
    assert result.cpu_ms == 2.5


def test_what_was_neither_written_nor_failed_is_lost():
    """Nothing is filtered here, so the two must add up."""
    assert a_result().lost == 0
    assert a_result(written=7).lost == 1


def test_a_rate_counts_the_rows_of_its_time():
    """The beginning belongs to it, the end does not."""
    result = a_result(rows=((1.0, 5), (2.0, 4), (3.0, 2)))

    assert result.rate(1.0, 3.0) == 4.5


def test_later_throughput_leaves_out_the_search():
    """Of twelve records in four seconds, ten came in the last two."""
    result = a_result(rows=((1.0, 1), (3.0, 1), (4.0, 4), (5.0, 6)))

    assert result.later_throughput == 5.0
    assert a_result().later_throughput == 0.0

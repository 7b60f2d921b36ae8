"""Offsets of clocks, and which of them mislead."""

from __future__ import annotations

from sage_dask.doctor.clocks import Offset, Sample, clock_findings, offset_of
from sage_dask.doctor.finding import Mark


def test_the_quickest_round_trip_tells_the_offset():
    """The truth lies within half of it, whichever way took longer."""
    slow, quick = Sample(0.0, 9.0, 4.0), Sample(10.0, 15.5, 11.0)

    assert offset_of([slow, quick]) == Offset(5.0, 0.5)


def test_a_clock_is_wrong_where_it_is_off_beyond_doubt():
    """Two seconds within ± 1.5 may be half a second; that and near ones are not warned of."""
    wrong, vague, near = clock_findings(
        {
            "a": Offset(-2.0, 0.1),
            "b": Offset(2.0, 1.5),
            "c": Offset(0.01, 0.002),
            "d": Offset(-0.9, 0.01),
        }
    )

    assert (wrong.mark, wrong.value) == (Mark.WARN, "a is -2.000 s (± 0.100) from here")
    assert (vague.mark, vague.value) == (Mark.NOTE, "b: answered too slowly to tell")
    assert (near.mark, near.value) == (Mark.OK, "c, d: at most -0.900 s (± 0.010) from here")


def test_a_cluster_that_told_no_time_is_not_judged():
    """There is nothing to say."""
    assert list(clock_findings({})) == []

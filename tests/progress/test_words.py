"""The words and numbers of a progress display."""

from __future__ import annotations

import pytest

from sage_dask.progress.words import (
    amount,
    done_of,
    milliseconds,
    rate,
    summary,
    time_of,
)
from tests.progress.building import progress_of, report_of


def test_summary_counts_rate_and_time_left():
    """Rate is what is done over elapsed time, and time left follows from it."""
    line = summary(progress_of(1_000, expected=4_000, num_failed=3, num_filtered=5), 50.0)

    assert line == ("1,000 of 4,000 done (25%)   20.0/s   3 failed   5 filtered   0:50   2:30 left")


def test_summary_without_an_end_has_no_time_left():
    """A source of unknown length shows no share and no end; a run just begun no rate."""
    assert summary(progress_of(7), 2.0) == "7 done   3.5/s   0:02"
    assert summary(progress_of(0, expected=0), 0.0) == "0 of 0 done   0.0/s   0:00"


def test_more_records_than_expected_are_at_most_all():
    """A source that undersells itself never shows more than 100 % or a negative time left."""
    line = summary(progress_of(30, expected=20), 10.0)

    assert "30 of 20 done (100%)" in line
    assert "left" not in line


def test_summary_tells_what_was_spent():
    """Tokens and cost stand in the line where there are any."""
    line = summary(progress_of(10, tokens=12_345, cost=0.456), 10.0)

    assert line == "10 done   1.0/s   12.3k tokens   cost 0.456   0:10"


def test_summary_of_a_run_that_broke_off_says_so():
    """What it ended with stands last, and no time is left; a good end needs no words."""
    broken = progress_of(5, expected=10, report=report_of("KeyboardInterrupt"))
    done = progress_of(10, expected=10, report=report_of("done"))

    assert summary(broken, 10.0).endswith("0:10   ended: KeyboardInterrupt")
    assert summary(done, 10.0).endswith("0:10")


def test_what_is_done_is_short_from_the_start_where_the_whole_will_not_fit():
    """So its form does not change while it grows."""
    assert done_of(7, 12_345, 18) == "7 of 12,345"
    assert done_of(7, 1_234_567, 18) == "7 of 1.2M"
    assert done_of(1_200_000_000_000, None, 9) == "1200G"


@pytest.mark.parametrize(
    ("form", "width", "values"),
    [
        (rate, 9, [0.0, 12.34, 9_999.94, 9_999.96, 123_456.0, 2e9]),
        (time_of, 8, [0, 59.9, 3_725, 359_999, 360_000, 86_400 * 365]),
        (amount, 8, [1e-9, 0.000123, 0.5, 9_999.99, 12_345.0, 5e9]),
        (milliseconds, 9, [0.0, 0.004, 99_999.99, 123_456.0, 9e9]),
    ],
)
def test_figures_fit_into_their_columns(form, width, values):
    """However large they are."""
    assert [len(form(value)) for value in values if len(form(value)) > width] == []

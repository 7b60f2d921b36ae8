"""When to ask again."""

from __future__ import annotations

import pytest

from sage_dask.operators.generation.retry import Retry, parse_retry_after


def test_waits_double_up_to_a_cap_and_tries_are_bounded():
    """Each failed try doubles the longest wait; the last one gives up."""
    retry = Retry(attempts=9)

    waits = [retry.delay_s(failed, None, jitter=1.0) for failed in range(1, 10)]

    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0, None]


def test_jitter_spreads_over_the_whole_wait():
    """Full jitter: the wait is anything from nothing to the longest."""
    retry = Retry()

    assert retry.delay_s(2, None, jitter=0.0) == 0.0
    assert retry.delay_s(2, None, jitter=0.25) == 0.25


def test_retry_after_is_never_undercut():
    """The server's own wish is the least wait, whatever the jitter."""
    assert Retry().delay_s(1, 7.0, jitter=0.0) == 7.0
    assert Retry().delay_s(1, 7.0, jitter=1.0) == 7.5


def test_a_very_long_retry_after_is_giving_up():
    """Who wants to be left alone for an hour is not waited for."""
    assert Retry().delay_s(1, 3600.0, jitter=0.5) is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_retry_after_header_is_read_with_care(header, seconds):
    """Seconds are read; dates, nonsense and infinities are as good as no header."""
    assert parse_retry_after(header) == seconds

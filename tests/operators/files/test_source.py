"""A look at the first rows."""

from __future__ import annotations

from sage_dask.operators.files.source import Rows, peek_fields
from sage_dask.record import Failure, SourceItem
from sage_dask.stage import FieldSet

BAD = Failure("line-1", "read", "BadRowError", "why")


def test_a_look_at_the_fields_is_bounded():
    """A hundred good rows are enough, a thousand rows of any kind too many; both let go."""
    seen: list[int] = []
    closed: list[bool] = []

    def rows(num_bad: int) -> Rows:
        try:
            for number in range(10_000):
                seen.append(number)
                yield BAD if number < num_bad else SourceItem(str(number), {"a": 1})
        finally:
            closed.append(True)

    few_bad = peek_fields(rows(num_bad=5))
    num_seen = len(seen)
    all_bad = peek_fields(rows(num_bad=10_000))

    assert few_bad == FieldSet(frozenset("a"), is_open=False)
    assert num_seen == 105
    assert all_bad == FieldSet()
    assert len(seen) - num_seen == 1000
    assert closed == [True, True]

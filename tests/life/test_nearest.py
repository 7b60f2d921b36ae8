"""Ids that look like one that is not there."""

from __future__ import annotations

from difflib import SequenceMatcher, get_close_matches

from hypothesis import given
from hypothesis import strategies as st

from sage_dask.events import BatchFormed, JobFinished
from sage_dask.life.nearest import nearest_ids


def nearest(wanted, *groups):
    """Return what is found among the ids of batches."""
    formed = [BatchFormed(number, 0.0, ids) for number, ids in enumerate(groups)]
    return nearest_ids(wanted, [*formed, JobFinished("done")])


def likeness(one, other):
    """Return how alike two ids are."""
    return SequenceMatcher(None, one, other, autojunk=False).ratio()


def test_the_most_alike_come_first_wherever_they_were():
    """A slip of the pen is found in any batch, before what is less alike."""
    assert nearest("q-170", ["a", "q-17"], ["zzz", "q-1700"])[0] == "q-1700"
    assert set(nearest("q-170", ["a", "q-17"], ["zzz", "q-1700"])) == {"q-17", "q-1700"}


def test_what_is_not_alike_is_not_suggested():
    """No suggestion is better than a wrong one."""
    assert nearest("question-1", ["a", "b/0", "xyz"]) == ()


def test_an_id_is_suggested_once():
    """A record that several starts took on counts as one."""
    assert nearest("q-1", ["q-12"], ["q-12"]) == ("q-12",)


@given(st.text("ab1-", max_size=6), st.lists(st.text("ab1-", min_size=1, max_size=6), unique=True))
def test_bounds_lose_nothing(wanted, ids):
    """The shortcuts find ids as alike as looking at every id would."""
    found = nearest(wanted, ids[:2], ids[2:])

    assert len(found) <= 3
    for best in get_close_matches(wanted, ids, n=1, cutoff=0.61):
        assert found
        assert likeness(found[0], wanted) == likeness(best, wanted)

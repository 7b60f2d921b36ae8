"""A set in the order of keys that change."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sage_dask.scheduling.ranked import Ranked

NAMES = st.sampled_from("abcde")
STEPS = st.lists(st.tuples(NAMES, st.none() | st.integers(0, 3)), max_size=40)


@given(STEPS)
def test_it_agrees_with_a_dictionary_that_is_sorted_each_time(steps):
    """After any puts and discards: the same members, order, first one and keys."""
    ranked, model = Ranked(), {}

    for name, key in steps:
        if key is None:
            ranked.discard(name)
            model.pop(name, None)
        else:
            ranked.put(name, key)
            model[name] = key

        assert list(ranked) == sorted(model, key=lambda name: (model[name], name))
        assert len(ranked) == len(model)
        assert all((name in ranked) == (name in model) for name in "abcde")
        assert all(ranked.key(name) == model.get(name) for name in "abcde")
        if model:
            assert ranked.first == next(iter(ranked))
            assert ranked.first_key == model[ranked.first]


def test_a_key_may_be_none():
    """A rank that says nothing puts names in their own order, each of them once."""
    ranked = Ranked()

    for name in "baab":
        ranked.put(name, None)

    assert list(ranked) == ["a", "b"]
    ranked.discard("a")
    assert list(ranked) == ["b"]

"""Differences between values are told where they are, and shortly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.fingerprint.plain import plain
from sage_dask.fingerprint.plain_changes import (
    holds_code,
    is_same_name,
    value_changes,
    without_code,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


def changes(old, new):
    """Return what is told of two values that go by the name ``x``."""
    return list(value_changes("x", plain(old), plain(new)))


def tidy(record):
    """Do one thing."""
    return record


def cut(record):
    """Do another."""
    return record[:1]


def made_with(number):
    """Return a function that holds a number."""
    return lambda record: number


@given(VALUES, VALUES)
def test_equal_values_and_no_others_have_no_difference(one, two):
    """A difference is told exactly where descriptions are not equal, and in few words."""
    told = changes(one, two)

    assert changes(one, one) == []
    assert bool(told) == bool(changes(two, one))
    if not told:
        assert plain(one) == plain(two)


@given(st.text(min_size=30), st.text(min_size=30))
def test_a_difference_of_long_texts_is_shown_and_short(one, two):
    """The two parts shown of texts are different, unless the texts are equal."""
    for text in changes(one, two):
        was, _, now = text.removeprefix("x was ").partition(", is ")

        assert was != now
        assert len(text) < 200


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (64, 128, "x was 64, is 128"),
        (1, True, "x was 1, is True"),
        (None, "a", "x was None, is 'a'"),
        ({"k": {"n": 1}}, {"k": {"n": 2}}, "x.k.n was 1, is 2"),
        ({"k": 1}, {}, "x.k was 1, is not given"),
        ({}, {"k": 1}, "x.k was not given, is 1"),
        ([1, [2, 3]], [1, [2, 4]], "x[1][1] was 3, is 4"),
        ([1], [1, 2], "x was [1], is [1, 2]"),
        ("y" * 5000, "y" * 4998, "x changed, 5,000 long before and 4,998 now"),
        (tidy, cut, "x was tidy, is cut"),
        (made_with(1), made_with(2), "what function '<lambda>' was made with changed"),
        (len, sum, "x was len, is sum"),
        (object(), 5, "x was object(...), is 5"),
        (float("nan"), 1.0, "x was nan, is 1.0"),
    ],
)
def test_a_difference_is_told_where_it_is(old, new, told):
    """The text names the place, what was there and what is there."""
    assert changes(old, new) == [told]


def test_numbers_are_compared_as_python_compares_them():
    """A temperature of 0 is one of 0.0."""
    assert changes({"temperature": 0}, {"temperature": 0.0}) == []


def test_a_function_is_known_by_code_and_module():
    """Renamed it is the same; another one of its name, or one from elsewhere, is not."""
    old = plain(tidy)
    renamed = {**old, "name": old["name"].replace("tidy", "neat")}
    moved = {**old, "name": "elsewhere:tidy"}
    of_script = {**old, "name": "__main__:tidy"}
    rewritten = {**old, "code": "0" * 16}

    assert list(value_changes("x", old, renamed)) == []
    assert list(value_changes("x", old, of_script)) == []
    assert list(value_changes("x", old, rewritten)) == ["the code of function 'tidy' changed"]
    assert len(list(value_changes("x", old, moved))) == 1


def test_two_of_one_name_are_told_apart():
    """Where the bare names are alike, the text says what else is different."""
    old = plain(tidy)
    [text] = value_changes("x", old, {**old, "name": "elsewhere:tidy"})

    assert "elsewhere" in text


def test_code_can_be_left_out_of_account():
    """Without digests of code functions are compared by name, and other values as ever."""
    old, new = [{"a": tidy, "n": 1}], [{"a": tidy, "n": 2}]
    rewritten = plain(new)
    rewritten[0]["a"]["code"] = "0" * 16

    told = list(value_changes("x", without_code(plain(old)), without_code(rewritten)))

    assert holds_code(plain(old))
    assert not holds_code(without_code(plain(old)))
    assert told == ["x[0].n was 1, is 2"]


def test_a_scripts_module_goes_by_any_name():
    """What a script defines is the same when a file imports it."""
    assert is_same_name("flow:Work", "__main__:Work")
    assert not is_same_name("flow:Work", "other:Work")
    assert not is_same_name("__main__:Work", "__main__:Play")

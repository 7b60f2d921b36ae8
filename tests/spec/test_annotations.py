"""Plain values against annotations."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from sage_dask.spec.annotations import fits, hints_of, is_union, item_hint, wanted


@pytest.mark.parametrize(
    ("hint", "good", "bad", "words"),
    [
        (str, ["a", ""], [1, None, ["a"]], "a text"),
        (int, [1, -1], [True, 1.0, "1"], "a whole number"),
        (float, [1, 0.5], [True, "1"], "a number"),
        (bool, [True], [1, "true"], "true or false"),
        (int | None, [1, None], ["1"], "a whole number or null"),
        (str | os.PathLike[str], ["a"], [1], "a text"),
        (Path, ["a"], [1], "a text"),
        (list[str], [[], ["a"]], ["a", ["a", 1]], "a list, each item a text"),
        (Sequence[int] | None, [[1], None], [{}, 1], "a list, each item a whole number or null"),
        (Iterable[Any], [[1, "a"]], ["ab", {}], "a list"),
        (Mapping[str, float], [{"a": 1}, {}], [[], {"a": "1"}], "a mapping"),
        (dict[str, Any], [{"a": []}], [None], "a mapping"),
        (Callable[[Any], Any], [len], ["len", None], "a function"),
        (Literal["a", 1], ["a", 1], ["b", True, None], "'a' or 1"),
        (Annotated[int, "ms"], [1], ["a"], "a whole number"),
    ],
)
def test_plain_kinds_are_judged(hint, good, bad, words):
    """Each plain kind takes its own values and no others, and says so in words."""
    assert all(fits(value, hint) for value in good)
    assert not any(fits(value, hint) for value in bad)
    assert wanted(hint) == words


@pytest.mark.parametrize("hint", [Any, Fraction, object])
def test_other_annotations_are_left_to_the_class(hint):
    """What plain values do not settle is not refused here."""
    assert fits(1, hint)
    assert fits("a", hint)


def test_annotations_that_name_nothing_are_not_judged():
    """A class whose annotations can not be resolved has no hints rather than an error."""

    class Odd:
        value: "NoSuchName"  # noqa: F821, UP037 - the point of the test

    assert hints_of(Odd) == {}


def test_what_stands_inside_has_annotations_of_its_own():
    """Items of lists and values of mappings are known where the annotation names them."""
    assert item_hint(Sequence[int]) is int
    assert item_hint(Mapping[str, float]) is float
    assert item_hint(list) is Any
    assert item_hint(str) is Any
    assert is_union(int | None)
    assert not is_union(Sequence[int])

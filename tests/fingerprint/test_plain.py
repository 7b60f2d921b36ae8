"""Values as plain data: equal ones alike, others apart, secrets and addresses nowhere."""

from __future__ import annotations

import copy
import datetime
import enum
import json
import re
import threading
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.fingerprint.plain import plain

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.dates()
)


def nested(leaves):
    """Return values that hold others."""
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
        max_leaves=12,
    )


class Colour(enum.IntEnum):
    """Numbers with names."""

    RED = 1
    BLUE = 2


@dataclass
class Settings:
    """Settings within settings."""

    depth: int = 1
    inner: Any = None
    api_key: str = "none"
    login: str = field(default="none", repr=False)
    cache: Any = field(default=None, compare=False)
    made: Any = field(default=None, init=False)


class Unruly:
    """Raises at any look."""

    def __getattr__(self, name):
        raise RuntimeError("do not look")

    def __call__(self):
        return None

    @property
    def __dict__(self):
        raise RuntimeError("do not look")


@given(nested(LEAVES | st.sets(st.text(max_size=3))))
def test_a_copy_has_the_same_description_and_json_keeps_it(value):
    """Descriptions depend on the value alone, and survive being written down."""
    described = plain(value)

    assert plain(copy.deepcopy(value)) == described
    assert json.loads(json.dumps(described, allow_nan=False)) == described


@given(nested(LEAVES), nested(LEAVES))
def test_values_that_differ_are_described_differently(one, two):
    """No two different values share a description; the texts are what Python shows of them."""
    if plain(one) == plain(two):
        assert str(one) == str(two) or one == two


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ((1, 2), [1, 2]),
        ({"b": 1, "a": 2}, {"a": 2, "b": 1}),
        (np.float64(0.5), 0.5),
        (np.array([1, 2]), np.array([1, 2])),
        (Path("a/b"), "a/b"),
        (threading.Lock(), threading.Lock()),
        (object(), object()),
        ({object(): 1}, {object(): 1}),
        (re.compile("a" * 300), re.compile("a" * 300)),
        ("http://user:pw@host/x", "http://other:word@host/x"),
        ({"Authorization": "one", "x": 1}, {"Authorization": "two", "x": 1}),
        (Settings(api_key="one"), Settings(api_key="two")),
        (Settings(cache=1), Settings(cache=2)),
    ],
)
def test_what_is_the_same_for_a_pipeline_has_one_description(one, two):
    """Forms of one value, and what has no reliable description, make no difference."""
    assert plain(one) == plain(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (1, True),
        (1, "1"),
        ({1: 0}, {"1": 0}),
        ({"$": 0}, {}),
        (Colour.RED, Colour.BLUE),
        (Colour.RED, 1),
        (np.array([1, 2]), np.array([2, 1])),
        (np.array([1, 2]), np.array([[1, 2]])),
        (np.array([1, 2], "i4"), np.array([1, 2], "i8")),
        (np.array(["a", None], object), np.array(["b", None], object)),
        (re.compile("a" * 300), re.compile("a" * 299 + "b")),
        (re.compile("a"), re.compile("a", re.I)),
        (datetime.timedelta(1), datetime.timedelta(2)),
        (Decimal("1.0"), Decimal("2.0")),
        (range(3), range(4)),
        ("x" * 5000, "x" * 4999 + "y"),
        (list(range(500)), [*range(499), 0]),
        (b"one", b"two"),
        (int, str),
        (json, re),
        (Settings(1), Settings(2)),
        (Settings(inner=Settings(1)), Settings(inner=Settings(2))),
        (Settings(login="one"), Settings(login="two")),
    ],
)
def test_what_differs_has_two_descriptions(one, two):
    """Kind, shape, order and every item count."""
    assert json.dumps(plain(one)) != json.dumps(plain(two))


def test_what_a_dataclass_does_not_show_is_not_shown():
    """A field without repr is told by a digest."""
    assert "s3cr3t" not in json.dumps(plain(Settings(login="s3cr3t", api_key="s3cr3t")))


def test_an_object_that_raises_at_any_look_has_a_description():
    """Other people's objects never keep a pipeline from being described."""
    assert plain([Unruly()]) == plain([Unruly()])


def test_a_value_that_holds_itself_has_a_description():
    """A circle ends where it closes, and a shared value is walked once."""
    circle = [1]
    circle.append(circle)
    ladder = [0]
    for _ in range(20):
        ladder = [ladder] * 9

    assert plain(circle) == [1, {"$": "instance", "name": "builtins:list"}]
    assert len(json.dumps(plain(ladder))) < 20_000


def test_a_long_value_has_a_short_description():
    """A run folder keeps descriptions, not data."""
    long = ["x" * 10_000, list(range(100_000)), b"x" * 10_000, np.zeros(10_000)]

    assert len(json.dumps(plain(long))) < 1000

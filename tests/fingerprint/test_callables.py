"""Functions and their relatives: one description for equal ones, and no value of theirs in it."""

from __future__ import annotations

import functools
import json
import operator

import pytest

from sage_dask.fingerprint.callables import is_secret, reference
from sage_dask.fingerprint.plain import plain
from sage_dask.operators import Generate


def adding(number, *, to=0):
    """Return a function that holds a number."""

    def add(record):
        return number + to

    return add


class Scaled:
    """Called like a function."""

    def __init__(self, factor):
        self.factor = factor
        self._calls = 0

    def __call__(self, record):
        self._calls += 1
        return record * self.factor

    def method(self, record):
        """Be bound."""
        return record


def counting():
    """Return a function that holds itself."""

    def count(n):
        return n and count(n - 1)

    return count


def late():
    """Return a function that holds a variable without a value."""

    def use():
        return value

    if use is None:
        value = 1
    return use


SAME = [
    (adding(1), adding(1)),
    (functools.partial(adding, 1, to=2), functools.partial(adding, 1, to=2)),
    (Scaled(2), Scaled(2)),
    (Scaled(2).method, Scaled(2).method),
    (operator.itemgetter("a", 1), operator.itemgetter("a", 1)),
    (operator.methodcaller("get", "a", d=1), operator.methodcaller("get", "a", d=1)),
    (functools.cache(adding), adding),
    (" ".join, " ".join),
    (len, len),
    (counting(), counting()),
    (late(), late()),
]

OTHER = [
    (adding(1), adding(2)),
    (adding(1), adding(1, to=1)),
    (lambda r, n=1: n, lambda r, n=2: n),
    (lambda r, *, n=1: n, lambda r, *, n=2: n),
    (functools.partial(adding, 1), functools.partial(adding, 2)),
    (Scaled(2), Scaled(3)),
    (Scaled(2).method, Scaled(3).method),
    (Scaled(2).method, Scaled(2).__call__),
    (operator.itemgetter("a"), operator.itemgetter("b")),
    (operator.methodcaller("get", "a", d=1), operator.methodcaller("get", "a", d=2)),
    (" ".join, ",".join),
    (len, sum),
    (str.upper, str.lower),
]


@pytest.mark.parametrize(("one", "two"), SAME)
def test_equal_callables_have_equal_descriptions(one, two):
    """Whatever is made twice in the same way is described twice in the same way."""
    assert plain(one) == plain(two)
    assert json.loads(json.dumps(plain(one))) == plain(one)


@pytest.mark.parametrize(("one", "two"), OTHER)
def test_other_callables_have_other_descriptions(one, two):
    """Closure, defaults, arguments, state and what it is bound to all count."""
    assert plain(one) != plain(two)


def test_what_a_callable_counts_in_private_does_not_count():
    """A call changes no description where it changes private attributes alone."""
    scaled = Scaled(2)
    before = plain(scaled)

    scaled(1)

    assert plain(scaled) == before


def test_no_value_that_a_function_holds_is_written_out():
    """A key in a closure or a default stands nowhere in the description."""
    described = json.dumps([plain(adding("s3cr3t")), plain(lambda r, key="s3cr3t": key)])

    assert "s3cr3t" not in described


def test_a_key_in_a_closure_may_change():
    """What goes by the name of a secret is no part of a function."""

    def asking(api_key):
        return lambda record: api_key

    assert plain(asking("one")) == plain(asking("two"))


@pytest.mark.parametrize("name", ["api_key", "OPENAI_API_KEY", "password", "hf_token", "x-api-key"])
def test_names_of_secrets_are_known(name):
    """Names that programs give their keys are taken for such."""
    assert is_secret(name)


@pytest.mark.parametrize("name", ["max_tokens", "tokens_into", "key", "keyword", "passages"])
def test_other_names_are_no_secrets(name):
    """Settings that merely sound alike are compared like all."""
    assert not is_secret(name)


def test_classes_of_this_package_go_without_their_module():
    """A class of ours that moves to another module keeps its reference."""
    assert reference(Generate) == "sage_dask:Generate"
    assert reference(json.JSONDecoder) == "json.decoder:JSONDecoder"

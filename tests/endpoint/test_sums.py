"""Sums of requests and of their times: they add up, and travel as plain values."""

from __future__ import annotations

import pickle
from dataclasses import fields

import pytest

from sage_dask.endpoint.call_times import CallTimes
from sage_dask.endpoint.usage import Usage


@pytest.fixture(params=[Usage, CallTimes])
def sums(request):
    """Sums of each kind, no two fields of which are equal."""
    names = [each.name for each in fields(request.param)]
    return request.param(**{name: place for place, name in enumerate(names, start=1)})


def test_every_field_is_added(sums):
    """Two of a kind make twice of everything, and the one that was added is as before."""
    total = type(sums)()
    total.add(sums)
    total.add(sums)

    assert total.as_dict() == {name: 2 * value for name, value in sums.as_dict().items()}
    assert list(sums.as_dict().values()) == list(range(1, 1 + len(fields(sums))))


def test_they_come_back_from_plain_values(sums):
    """As a dict and pickled; a dict leaves out what is zero."""
    first = fields(sums)[0].name
    some = type(sums)(**{first: 5})

    assert type(sums).from_dict(sums.as_dict()) == sums == pickle.loads(pickle.dumps(sums))
    assert some.as_dict() == {first: 5}
    assert type(sums).from_dict({first: 5}) == some


def test_only_what_counted_something_is_true(sums):
    """So ``or None`` leaves out what is empty."""
    assert sums
    assert not type(sums)()


def test_sums_of_another_kind_are_refused(sums):
    """What an event holds is never taken for something else."""
    with pytest.raises(TypeError, match="unheard_of"):
        type(sums).from_dict({"unheard_of": 1})

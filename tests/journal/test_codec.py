"""Records as bytes: exact, refused by name, and never code."""

from __future__ import annotations

import math
import os
import pickle
import re
import subprocess
import sys
import threading
import uuid
import zoneinfo
from collections import OrderedDict, defaultdict, namedtuple
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import IntEnum

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.journal.codec import MAX_DEPTH, decode, digest, encode
from sage_dask.journal.entries import DIGEST_BYTES
from sage_dask.journal.leaves import Code

_ZONES = st.none() | st.sampled_from(
    [
        UTC,
        timezone(timedelta(hours=-3, minutes=-30)),
        timezone(timedelta(microseconds=1), "odd"),
        zoneinfo.ZoneInfo("UTC"),
    ]
)
_NUMPY = st.sampled_from(
    [
        *(np.dtype(letter).type(1) for letter in "?bBhHiIlLqQefdgFDG"),
        np.float32("nan"),
        np.str_("a\0"),
        np.str_(""),
        np.bytes_(b"\0"),
        np.datetime64("2020-01-01T00", "25m"),
        np.datetime64("NaT"),
        np.timedelta64(5, "ms"),
    ]
)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters())
    | st.text(st.characters(categories=["Cs"]))
    | st.binary()
    | st.datetimes(timezones=_ZONES, allow_imaginary=False)
    | st.dates()
    | st.times(timezones=_ZONES)
    | st.timedeltas()
    | st.decimals()
    | st.uuids()
    | st.complex_numbers()
    | _NUMPY
)
_KEYS = st.recursive(
    # What is unequal to itself is no key that could be found again.
    _SCALARS.filter(lambda value: not re.search("na[nt]", repr(value), re.IGNORECASE)),
    lambda keys: st.lists(keys, max_size=3).map(tuple) | st.frozensets(keys, max_size=3),
    max_leaves=3,
)
_VALUES = st.recursive(
    _SCALARS | st.binary().map(bytearray),
    lambda values: (
        st.lists(values, max_size=4)
        | st.lists(values, max_size=4).map(tuple)
        | st.sets(_KEYS, max_size=3)
        | st.dictionaries(_KEYS, values, max_size=4)
    ),
    max_leaves=12,
)


def _told(value):
    """Return what tells a value from all others: types, NaN and signs of zero included."""
    kind = type(value)
    if kind in (list, tuple):
        return kind, [_told(item) for item in value]
    if kind in (set, frozenset):
        return kind, sorted(repr(_told(item)) for item in value)
    if kind is dict:
        return kind, [(_told(key), _told(item)) for key, item in value.items()]
    if kind in (datetime, time):
        return kind, repr(value), value.fold, value.tzname() if kind is datetime else None
    return kind, repr(value)


@given(_VALUES)
def test_what_is_decoded_is_what_was_encoded(value):
    """Any plain value comes back with the same types, in the same order."""
    assert _told(decode(encode(value))) == _told(value)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3).T,
        np.arange(3, dtype=">i2"),
        np.array(["a", "bc\0"]),
        np.array([b"x"]),
        np.array(["2020-01-01"], "M8[D]"),
        np.zeros((0, 3)),
        np.array(1.5),
        np.array([True, False]),
        np.zeros(3, "q"),
        np.arange(4)[::2],
    ],
    ids=str,
)
def test_arrays_come_back(array):
    """Arrays keep dtype, shape and values, and can be written to."""
    back = decode(encode({"v": [array]}))["v"][0]

    assert type(back) is np.ndarray
    assert (back.dtype, back.dtype.char, back.shape) == (array.dtype, array.dtype.char, array.shape)
    assert back.tobytes() == array.tobytes()
    assert back.flags.writeable


class _Level(IntEnum):
    LOW = 1


class _Text(str):
    __slots__ = ()


class _Zone(tzinfo):
    def utcoffset(self, when):
        return timedelta(hours=1)


_Pair = namedtuple("_Pair", "a b")
_CYCLE: list = []
_CYCLE.append({"again": _CYCLE})


@pytest.mark.parametrize(
    "value",
    [
        object(),
        print,
        _Level.LOW,
        _Text("x"),
        _Pair(1, 2),
        OrderedDict(),
        defaultdict(list),
        memoryview(b"x"),
        range(3),
        msgpack.ExtType(2, b"\x90"),
        msgpack.Timestamp(1, 2),
        np.array([object()]),
        np.zeros(2, [("a", "i4")]),
        np.array([1]).view(type("Sub", (np.ndarray,), {})),
        np.ma.masked_array([1]),
        np.array(["a"], np.dtypes.StringDType()),
        datetime(2020, 1, 1, tzinfo=_Zone()),
        {(math.nan,): 1, (float("nan"),): 2},
        _CYCLE,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_encoding_is_refused_by_its_place(value):
    """A message names the field, its type, and the mend; in digests only the type counts."""
    with pytest.raises(
        ValueError, match=r"field 'a'\['b'\]\[1\].* can not be kept in a journal: .*Sele"
    ):
        encode({"a": {"b": [0, value]}})

    assert len(digest({"a": value})) == DIGEST_BYTES


@pytest.mark.parametrize(
    "wrap", [lambda v: [v], lambda v: (v,), lambda v: {"k": v}], ids=["list", "tuple", "dict"]
)
def test_depth_is_bounded(wrap):
    """The deepest values come back, also in a thread; deeper ones are refused, never a crash."""
    deep = "end"
    for _ in range(MAX_DEPTH):
        deep = wrap(deep)
    back = []
    thread = threading.Thread(target=lambda: back.append(decode(encode(deep))))
    thread.start()
    thread.join()

    assert back == [deep]
    with pytest.raises(ValueError, match="levels deep"):
        encode(wrap(deep))
    for _ in range(100_000):
        deep = wrap(deep)
    with pytest.raises(ValueError, match="levels deep"):
        encode(deep)
    assert digest(deep)
    while not isinstance(deep, str):
        (deep,) = deep.values() if isinstance(deep, dict) else deep


@given(_VALUES, st.data())
def test_damaged_bytes_are_a_value_error(value, data):
    """Bytes that were cut, changed or made up decode to something, or raise ValueError alone."""
    encoded = bytearray(encode(value))
    at = data.draw(st.integers(0, len(encoded) - 1))
    if data.draw(st.booleans()):
        del encoded[at:]
    else:
        encoded[at] ^= data.draw(st.integers(1, 255))

    for damaged in (bytes(encoded), data.draw(st.binary())):
        try:
            decode(damaged)
        except ValueError:
            continue


def test_bytes_that_nest_for_ever_are_refused():
    """Extensions inside extensions end at the limit, before the stack does."""
    nested = msgpack.packb(None)
    for _ in range(5000):
        nested = msgpack.packb(msgpack.ExtType(2, b"\x91" + nested))

    with pytest.raises(ValueError, match="levels deep"):
        decode(nested)


class _Trap:
    """Something that tells when it is made by unpickling."""

    def __reduce__(self):
        return (os.abort, ())


def test_a_pickle_is_just_bytes():
    """Bytes that would run code stay bytes, and object arrays are refused."""
    trap = pickle.dumps(_Trap())

    assert decode(encode({"a": trap})) == {"a": trap}
    for code in range(128):
        with suppress(ValueError):
            decode(msgpack.packb(msgpack.ExtType(code, trap)))
    for code in (Code.ARRAY, Code.SCALAR):
        with pytest.raises(ValueError, match="not a dtype"):
            decode(msgpack.packb(msgpack.ExtType(code, msgpack.packb(["|O", [1], trap]))))


@given(_VALUES, _VALUES)
def test_digests_tell_values_apart(one, other):
    """Equal encodings have equal digests, others have others."""
    assert (digest(one) == digest(other)) == (encode(one) == encode(other))


def test_digests_are_the_same_in_another_process():
    """Neither hash seeds nor addresses enter a digest."""
    program = (
        "from sage_dask.journal.codec import digest\n"
        "class Foo: pass\n"
        "print(digest({'a': {'x', 'yy', 'z', (1, 2.5)}, 'b': [Foo()], 'c': 2**80}).hex())"
    )

    seen = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in "123"
    }

    assert len(seen) == 1


def test_a_digest_is_known():
    """Digests stand in files, so they stay what they are from version to version."""
    record = {"id": "q-1", "text": "ä", "n": -7, "score": 0.5, "tags": ["a", None, True]}

    assert digest(record).hex() == "6e91a042810fe4ef"
    assert (
        digest({"t": (1, date(2020, 1, 2), Decimal("1.50"), uuid.UUID(int=5))}).hex()
        == "b0a611233ba15ded"
    )

"""What one word stands for, and which words are refused."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.errors import SpecError
from sage_dask.spec.scalars import scalar
from sage_dask.spec.schema import BOOL, FLOAT, INT, NULL


def test_each_kind_is_read():
    """The schema's four kinds become values of Python, and anything else stays a text."""
    read = [scalar(tag, text, "f") for tag, text in [(NULL, "~"), (BOOL, "TRUE"), (BOOL, "False")]]

    assert read == [None, True, False]
    assert (scalar(INT, "-12", "f"), scalar(FLOAT, "1e3", "f")) == (-12, 1000.0)
    assert scalar("tag:yaml.org,2002:timestamp", "2024-01-01", "f") == "2024-01-01"


@given(st.integers(-(1 << 70), 1 << 70))
def test_whole_numbers_are_exact_or_refused(number):
    """Sixty-four bits are read as they are; more are refused, and never cut."""
    if -(1 << 63) <= number < 1 << 63:
        assert scalar(INT, str(number), "f") == number
    else:
        with pytest.raises(SpecError, match=r"^f: .*more than 64 bits"):
            scalar(INT, str(number), "f")


@given(st.from_regex(r"[-+]?[0-9]{1,18}", fullmatch=True))
def test_a_whole_number_is_the_same_to_readers_of_yaml_1_1(text):
    """What is not refused means what a reader of the older YAML takes it for."""
    try:
        value = scalar(INT, text, "f")
    except SpecError:
        return

    assert value == yaml.safe_load(text)


@pytest.mark.parametrize("text", ["007", "+00", "-01"])
def test_a_leading_zero_is_refused(text):
    """To some readers it makes a number octal, and to people it is often a text."""
    with pytest.raises(SpecError, match=r"begins with 0.*quotes if it is a text"):
        scalar(INT, text, "f:1:1")

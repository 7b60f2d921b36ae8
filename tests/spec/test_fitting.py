"""What is said of a value that does not fit, and of which one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from sage_dask.errors import SpecError
from sage_dask.spec.document import parse_yaml
from sage_dask.spec.fitting import check_fits


@pytest.mark.parametrize(
    ("text", "hint", "says"),
    [
        ("12", str, "f:1:1: it is the number 12, and what is wanted is a text; put it in quotes"),
        ("[a, {b: [c, 1]}]", Sequence[Mapping[str, list[str]] | str], "f:1:13: it holds the num"),
        ("[a, b]", int | None, "f:1:1: it is a list, and what is wanted is a whole number or null"),
        ("{a: 1, b: x}", Mapping[str, int] | None, "f:1:11: it holds the text 'x', and what is"),
        ("[1]", Mapping[str, int] | str, "f:1:1: it is a list, and what is wanted is a mapping"),
        ("[a, 0x1f]", str | Sequence[int], "f:1:2: it holds the text 'a', and what is wanted is"),
    ],
)
def test_the_innermost_misfit_is_named(text, hint, says):
    """A message points at the one item that is wrong, and says what its own place takes."""
    with pytest.raises(SpecError) as caught:
        check_fits(parse_yaml(text, "f"), hint, "it")

    assert str(caught.value).startswith(says)


@pytest.mark.parametrize(
    ("text", "hint"), [("[]", Sequence[str] | None), ("~", str | None), ("{a: [1]}", Any)]
)
def test_what_fits_passes(text, hint):
    """Empty values and values that nothing is known of are left alone."""
    check_fits(parse_yaml(text, "f"), hint, "it")


def test_quotes_are_proposed_only_where_a_text_would_do():
    """A number in the place of a boolean is not better in quotes."""
    with pytest.raises(SpecError, match=r"wanted is true or false$"):
        check_fits(parse_yaml("1", "f"), bool, "it")

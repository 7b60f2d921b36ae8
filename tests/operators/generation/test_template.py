"""Templates: names in, text out, nothing evaluated."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.errors import PlanError
from sage_dask.operators.generation.template import Template


def test_placeholders_are_filled_and_doubled_braces_stay():
    """Names are replaced wherever they stand; ``{{`` and ``}}`` come out as braces."""
    template = Template.parse("{a} and {b}, {{not c}}, {a}", origin="t")

    assert template.names == ("a", "b")
    assert template.fill({"a": "1", "b": "2"}) == "1 and 2, {not c}, 1"


@pytest.mark.parametrize(
    "text",
    [
        "{a.b}",
        "{a[0]}",
        "{a!r}",
        "{a:>10}",
        "{}",
        "{0}",
        "{a.__class__}",
        '{"json": 1}',
        "{a",
        "a}",
        "{a:{b}}",
    ],
)
def test_anything_beyond_a_name_is_refused(text):
    """Attributes, indices, format codes and lone braces are found when the template is parsed."""
    with pytest.raises(PlanError, match=r"prompt\.txt.*braces"):
        Template.parse(text, origin="prompt.txt")


@given(st.text(), st.text())
def test_values_come_out_literally_and_once(first, second):
    """Whatever a value holds, braces too, it is not looked at again."""
    template = Template.parse("<{first}|{second}>", origin="t")

    assert template.fill({"first": first, "second": second}) == f"<{first}|{second}>"


@given(st.text())
def test_any_text_with_doubled_braces_is_itself(text):
    """Escaping is complete: a text whose braces are doubled comes out as it was."""
    escaped = text.replace("{", "{{").replace("}", "}}")

    assert Template.parse(escaped, origin="t").fill({}) == text

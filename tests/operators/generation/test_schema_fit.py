"""Values against schemas."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.operators.generation.schema_fit import TYPES, faults, part_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def found(value, schema):
    return list(faults(value, schema, root=schema))


@pytest.mark.parametrize(
    ("schema", "fits", "does_not"),
    [
        ({"type": "integer"}, [1, 1.0, -3], [1.5, True, "1", None, float("inf")]),
        ({"type": "number"}, [1, 1.5], [False, "1"]),
        ({"type": "boolean"}, [True], [1, None]),
        ({"type": ["string", "null"]}, ["a", None], [1]),
        ({"enum": ["a", 1, None]}, ["a", 1, 1.0, None], ["b", True]),
        ({"const": True}, [True], [1]),
        ({"minimum": 2, "maximum": 3}, [2, 3, "x", True], [1, 4]),
        ({"minLength": 1, "maxLength": 2}, ["a", "ab", 7], ["", "abc"]),
        ({"minItems": 1, "maxItems": 2}, [[1], [1, 2], "abc"], [[], [1, 2, 3]]),
        ({"pattern": "^a"}, ["ab", 7], ["ba"]),
        ({"type": "array", "items": {"type": "string"}}, [[], ["a"]], [["a", 1], {}]),
        ({"required": ["a"]}, [{"a": None}, []], [{}]),
        ({"properties": {"a": {"type": "null"}}}, [{}, {"a": None}, {"b": 1}], [{"a": 1}]),
        (
            {"properties": {"a": {}}, "additionalProperties": False},
            [{}, {"a": 1}],
            [{"b": 1}, {"a": 1, "b": 1}],
        ),
        ({"additionalProperties": {"type": "string"}}, [{"a": "x"}], [{"a": 1}]),
        ({"anyOf": [{"type": "string"}, {"minimum": 5}]}, ["a", 5], [4]),
        ({}, [1, None, {}], []),
        ({"unevaluatedItems": False, "format": "date"}, [[1], "x"], []),
    ],
)
def test_each_keyword_takes_what_fits_and_nothing_else(schema, fits, does_not):
    """JSON Schema's meaning: keywords of one type pass over values of another."""
    assert [value for value in fits if found(value, schema)] == []
    assert [value for value in does_not if not found(value, schema)] == []


def test_references_lead_to_a_part_of_the_schema():
    """Definitions may refer to themselves, as trees do."""
    schema = {
        "$defs": {"a/b": {"properties": {"next": {"$ref": "#/$defs/a~1b"}}, "required": ["id"]}},
        "$ref": "#/$defs/a~1b",
    }

    assert found({"id": 1, "next": {"id": 2}}, schema) == []
    assert found({"id": 1, "next": {}}, schema) == ["$.next lacks 'id'"]
    assert part_of(schema, "#") is schema


def test_a_fault_says_where_what_and_what_is_wanted():
    """The message is what the model is told to mend its answer with."""
    schema = {
        "properties": {"items": {"items": {"properties": {"n": {"type": "integer"}}}}},
        "required": ["name"],
    }

    assert found({"items": [{"n": 1}, {"n": "two"}]}, schema) == [
        "$ lacks 'name'",
        '$.items[1].n is "two", and integer is wanted',
    ]


def test_long_values_are_cut_in_messages():
    """A fault travels into a prompt and a failed file; neither wants the whole value."""
    (fault,) = found("x" * 10_000, {"type": "null"})

    assert len(fault) < 200


@given(JSON)
def test_every_value_has_a_type_and_fits_itself(value):
    """Whatever JSON can say is of one type (two for whole numbers) and equal to itself."""
    types = [name for name, is_of in TYPES.items() if is_of(value)]

    assert len(types) - ("integer" in types) == 1
    assert found(value, {"const": value, "type": types}) == []

"""Instances of the schemas that pipelines ask for."""

from __future__ import annotations

import json

import pytest

from sage_dask.cluster.timed_server.schema_instance import instance_text


@pytest.mark.parametrize(
    ("schema", "instance"),
    [
        ({"type": "boolean"}, True),
        ({"type": "integer"}, 0),
        ({"type": "integer", "minimum": 3}, 3),
        ({"type": "integer", "exclusiveMinimum": 3}, 4),
        ({"type": "integer", "maximum": -2}, -2),
        ({"type": "integer", "minimum": 4, "multipleOf": 3}, 6),
        ({"type": "string"}, "text"),
        ({"type": "string", "minLength": 6}, "textxx"),
        ({"type": "string", "maxLength": 2}, "te"),
        ({"type": ["string", "null"]}, "text"),
        ({"enum": ["yes", "no"]}, "yes"),
        ({"const": 7}, 7),
        ({"type": "array", "items": {"type": "null"}}, []),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, [True, True]),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, 0),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"const": "found"}}}, "found"),
        (
            {
                "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
                "required": ["a"],
            },
            {"a": 0},
        ),
    ],
)
def test_an_instance_is_valid_and_small(schema, instance):
    """What is required is there, within its bounds."""
    assert json.loads(instance_text(schema)) == instance


def test_a_schema_that_requires_itself_ends():
    """No instance of it exists, so none is right; but the server goes on."""
    endless = {"type": "object", "required": ["again"], "properties": {"again": {"$ref": "#"}}}

    assert instance_text(endless).startswith('{"again":{"again":')

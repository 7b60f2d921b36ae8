"""Schemas as they are declared, and the JSON of answers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.errors import PlanError
from sage_dask.operators.generation.schema import AnswerSchema

PERSON = {
    "title": "A Person!",
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
}


def test_a_schema_is_sent_as_servers_want_it():
    """The name has only what names may have, and the schema goes whole."""
    sent = AnswerSchema.load(PERSON).response_format

    assert sent == {
        "type": "json_schema",
        "json_schema": {"name": "A_Person_", "schema": PERSON},
    }
    assert AnswerSchema.load({}).response_format["json_schema"]["name"] == "answer"


def test_a_schema_may_stand_in_a_file(tmp_path):
    """A path is as good as the schema itself."""
    path = tmp_path / "person.json"
    path.write_text(json.dumps(PERSON), "utf-8")

    assert AnswerSchema.load(str(path)) == AnswerSchema.load(PERSON)


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_file_without_a_schema_is_refused(tmp_path, content):
    """What is missing or wrong is told with the path."""
    path = tmp_path / "person.json"
    if content is not None:
        path.write_text(content, "utf-8")

    with pytest.raises(PlanError, match=r"person\.json"):
        AnswerSchema.load(str(path))


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "strin"}, "did you mean 'string'"),
        ({"items": {"type": "text"}}, "'text' is unknown"),
        ({"properties": {"a": "string"}}, "stands where a schema must be"),
        ({"properties": ["a"]}, "no JSON schema"),
        ({"anyOf": 1}, "no JSON schema"),
        ({"type": 1}, "no JSON schema"),
        ({"pattern": "("}, "no JSON schema"),
        ({"$ref": "#/$defs/Nowhere"}, "leads nowhere"),
        ({"$ref": "#"}, "leads nowhere"),
        ({"$ref": "#anchor"}, "leads nowhere"),
        ({"$ref": "https://example.org/schema"}, "leads nowhere"),
        ({"$ref": 1}, "leads nowhere"),
        (
            {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
            "leads nowhere",
        ),
    ],
)
def test_what_no_answer_could_be_checked_against_is_refused(schema, message):
    """A slip in a schema is found while planning, not with each answer."""
    with pytest.raises(PlanError, match=message):
        AnswerSchema.load(schema)


@pytest.mark.parametrize(
    "text", ['{"name": "Ada"}', ' \n{"name": "Ada"}\n', '```json\n{"name": "Ada"}\n```\n']
)
def test_an_answer_becomes_its_value(text):
    """Chat models like to wrap JSON in a fence; that is taken off."""
    assert AnswerSchema.load(PERSON).parse(text) == {"name": "Ada"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Ada", "no JSON"),
        ('{"name": "Ada"', "no JSON.*line 1"),
        ('{"name": NaN}', "NaN is no number"),
        ('{"name": 1}', r"\$\.name is 1, and string is wanted"),
        ("{}", "lacks 'name'"),
        ("", "no JSON"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_an_answer_that_does_not_fit_says_why(text, fault):
    """Each fault is an error with a short message, and never takes the process along."""
    with pytest.raises(ValueError, match=fault) as caught:
        AnswerSchema.load(PERSON).parse(text)

    assert len(str(caught.value)) < 200


def test_the_error_does_not_carry_the_answer_along():
    """It is pickled with the record's failure; the parser's error would hold the whole text."""
    with pytest.raises(ValueError, match="no JSON") as caught:
        AnswerSchema.load(PERSON).parse("x" * 1000)

    assert caught.value.__context__ is None


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_json_comes_back_as_it_was_written(value):
    """Without keywords any JSON is an answer."""
    assert AnswerSchema.load({}).parse(json.dumps(value)) == value

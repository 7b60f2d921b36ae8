"""YAML as marked values: what is read, what is refused, and where it says so."""

from __future__ import annotations

import pytest

from sage_dask.errors import SpecError
from sage_dask.spec.document import parse_yaml
from sage_dask.spec.schema import MAX_DEPTH


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("on", "on"),
        ("NO", "NO"),
        ("~", None),
        ("''", ""),
        ("12", 12),
        ("'12'", "12"),
        ("0x1f", "0x1f"),
        ("1:30", "1:30"),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        (".inf", ".inf"),
        ("{a: [1, {b: null}]}", {"a": [1, {"b": None}]}),
        ("on: 1", {"on": 1}),
        ("<<: {a: 1}", {"<<": {"a": 1}}),
    ],
)
def test_plain_scalars_follow_the_core_schema(text, value):
    """Words and numbers mean what YAML 1.2 says, and nothing is merged or dated."""
    assert parse_yaml(text, "f").plain == value
    assert type(parse_yaml(text, "f").plain) is type(value)


def test_values_know_where_they_stand():
    """A value carries the place of its first character, and that of its key."""
    document = parse_yaml("a: 1\nb:\n  - c: [x]\n", "f")

    [item] = document.mapping("it")["b"].items("b")
    assert document.where == "f:1:1"
    assert (item.where, item.value["c"].where, item.value["c"].key_where) == (
        "f:3:5",
        "f:3:8",
        "f:3:5",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f:1:1: the document is empty"),
        ("a: 1\n---\nb: 1\n", "f:2:1: a second document"),
        ("a: &x 1\n", "f:1:4: anchors"),
        ("a: *x\n", "f:1:4: anchors"),
        ("a: !!python/object:os.system 1\n", "f:1:4: tags are not allowed"),
        ("a: 1\nb: 2\na: 3\n", "f:3:1: key 'a' stands here for the second time (first at f:1:1)"),
        ("1: a\n", "f:1:1: a key is the number 1"),
        ("[a]: b\n", "f:1:1: a key is a list"),
        ("a: 'x\n", "f:2:1: found unexpected end of stream"),
        ("a: [1, 2\nb: 3\n", "f:2:2: "),
        ("\ta: 1\n", "f:1:1: "),
        ("a: 1\nb: \x07\n", "f:2:4: character U+0007 may not stand in YAML"),
        ("a: 1e999\n", "f:1:4: the number 1e999 is out of range"),
        ("a: " + "9" * 5000, "f:1:4: a number of 5,000 digits"),
        ('a: "\\UFFFFFFFF"\n', "f:1:"),
        ("[" * (MAX_DEPTH + 1), f"f:1:{MAX_DEPTH + 1}: nested more than 32 levels deep"),
        ("[" * 100_000, f"f:1:{MAX_DEPTH + 1}: nested more than 32 levels deep"),
        ("x" * ((1 << 20) + 1), "f: 1,048,577 bytes are more than"),
        ("é" * (1 << 19) + "x", "f: 1,048,577 bytes are more than"),
    ],
    ids=range(19),
)
def test_more_than_data_is_refused(text, message):
    """Tags, aliases, duplicates, depth, size and broken YAML are refused with their place."""
    with pytest.raises(SpecError) as caught:
        parse_yaml(text, "f")

    assert str(caught.value).startswith(message)


def test_depth_up_to_the_limit_is_read():
    """The limit refuses one level more, and nothing less."""
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH

    assert parse_yaml(text, "f").value

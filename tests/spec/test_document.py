"""YAML as marked values: what is read, what is refused, and where it says so."""

from __future__ import annotations

from itertools import count

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
        ("'<<': {a: 1}", {"<<": {"a": 1}}),
        ("'007'", "007"),
        ("0", 0),
        ("-0.5", -0.5),
        ("0o17", "0o17"),
        ("12:30:45", "12:30:45"),
        ("=", "="),
        ("9223372036854775807", 2**63 - 1),
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
        ("a: " + "9" * 5000, "f:1:4: the number 999999999999999999999999999999 takes more than"),
        ('a: "\\UFFFFFFFF"\n', "f:1:"),
        ("a: ! x\n", "f:1:4: tags are not allowed"),
        ("a: !!binary aGVsbG8=\n", "f:1:4: tags are not allowed"),
        ("a: !!timestamp 2024-01-01\n", "f:1:4: tags are not allowed"),
        ("%TAG ! tag:yaml.org,2002:python/\n---\na: !object:os.system x\n", "f:3:4: tags are"),
        ("a: [&x 1, *x]\n", "f:1:5: anchors"),
        ("&x a: 1\n", "f:1:1: anchors"),
        ("<<: {a: 1}\n", "f:1:1: merge keys (<<) are not allowed"),
        ("a: {<<: [{b: 1}]}\n", "f:1:5: merge keys (<<) are not allowed"),
        ("a: {b: 1, 'b': 2}\n", "f:1:11: key 'b' stands here for the second time"),
        ("true: 1\n", "f:1:1: a key is the boolean true, and a text is wanted; put it in quotes"),
        ("~: 1\n", "f:1:1: a key is null, and a text is wanted"),
        ("? {a: 1}\n: 1\n", "f:1:3: a key is a mapping"),
        ("a: 1\n...\n---\nb: 1\n", "f:3:1: a second document"),
        ("a: b\0c\n", "f:1:5: character U+0000 may not stand in YAML"),
        ("a: 007\n", "f:1:4: the number 007 begins with 0"),
        ("a: -010\n", "f:1:4: the number -010 begins with 0"),
        ("a: 9223372036854775808\n", "f:1:4: the number 9223372036854775808 takes more than 64"),
        ("a: -9223372036854775809\n", "f:1:4: the number -9223372036854775809 takes more"),
        ("[" * (MAX_DEPTH + 1), f"f:1:{MAX_DEPTH + 1}: nested more than 32 levels deep"),
        ("[" * 100_000, f"f:1:{MAX_DEPTH + 1}: nested more than 32 levels deep"),
        ("x" * ((1 << 20) + 1), "f: 1,048,577 bytes are more than"),
        ("é" * (1 << 19) + "x", "f: 1,048,577 bytes are more than"),
    ],
    ids=count(),
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


@pytest.mark.parametrize(
    ("text", "shown", "quotes"),
    [
        ("1e3", "the number 1e3", "; put it in quotes: '1e3'"),
        ("+12", "the number +12", "; put it in quotes: '+12'"),
        ("TRUE", "the boolean true", "; put it in quotes: 'TRUE'"),
        ("~", "null", "; put it in quotes: '~'"),
        ("a:", "a mapping", ""),
        ("'1e3'", "the text '1e3'", ""),
        ("1." + "2" * 50, "the number 1." + "2" * 35 + "...", None),
    ],
)
def test_what_was_no_text_is_shown_as_it_is_written(text, shown, quotes):
    """A message repeats the file's own spelling, and says how a text would be written."""
    value = parse_yaml(text, "f")

    assert value.shown == shown
    assert quotes is None or value.in_quotes == quotes

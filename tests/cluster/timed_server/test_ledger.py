"""Who asked how often, and by what name."""

from __future__ import annotations

import pytest

from sage_dask.cluster.timed_server import ledger as module
from sage_dask.cluster.timed_server.ledger import Ledger, request_id


@pytest.mark.parametrize(
    ("header", "body", "name"),
    [
        ("h1", b'{"prompt": "[[id:q7]]"}', "h1"),
        (None, b'{"prompt": "tell [[id:q7]] me"}', "q7"),
        (None, b'{"prompt": "[[id:unclosed"}', None),
        (None, b"{}", None),
    ],
)
def test_a_request_is_known_by_header_marker_or_body(header, body, name):
    """In that order; equal bodies have equal names."""
    found = request_id(header, body)

    assert found == (name or request_id(None, body))
    assert name or found.startswith("body-")
    assert request_id(None, body + b" ") != request_id(None, body) or name


def test_tries_and_answers_are_counted_by_name():
    """The number of a try is known as it comes in."""
    ledger = Ledger()

    assert [ledger.receive("a"), ledger.receive("b"), ledger.receive("a")] == [1, 1, 2]
    ledger.answer("a")

    assert ledger.entries() == {
        "a": {"received": 2, "answered": 1},
        "b": {"received": 1, "answered": 0},
    }
    assert (ledger.received, ledger.answered) == (3, 1)


def test_the_ledger_does_not_grow_for_ever(monkeypatch):
    """The oldest make room, and how many did is known."""
    monkeypatch.setattr(module, "_MOST_IDS", 2)
    ledger = Ledger()

    for name in "abc":
        ledger.receive(name)
    ledger.answer("a")

    assert list(ledger.entries()) == ["b", "c"]
    assert (ledger.forgotten, ledger.received, ledger.answered) == (1, 3, 1)


def test_a_reset_forgets_everything():
    """Numbers begin with one again."""
    ledger = Ledger()
    ledger.receive("a")

    ledger.reset()

    assert (ledger.received, ledger.entries()) == (0, {})

"""Reading documentation without importing it."""

from __future__ import annotations

import pytest

from sage_dask.demo.entries import clean, read_entries

MODULE = '''
"""A module that must never run."""
raise SystemExit

def public(a, *, b=1):
    """Do a public thing with a.

    Returns what it did.
    """

def _private():
    """Nobody should read this one."""

def public():
    """Do it again after a redefinition."""

class Thing:
    """A thing that is documented."""

    def method(self):
        """Do what things do here."""

    def short(self):
        """Too short."""

if True:
    def hidden(): "Not at the top level of it."
'''


@pytest.fixture
def library(tmp_path):
    """A small library: a package, a test folder, a file that is no Python, and topics."""
    files = {
        "pkg/__init__.py": '"""The package and its documentation."""',
        "pkg/mod.py": MODULE,
        "pkg/test/test_mod.py": MODULE,
        "broken.py": "def (:",
        "pydoc_data/topics.py": "topics = {'b': 'Topic b is here.\\n', 'a': 'Topic a is here.'}",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return tmp_path


def test_public_documentation_is_read_in_order(library):
    """Each documented public name comes once, in the order of files and lines; topics follow."""
    entries = read_entries(library)

    assert [entry.name for entry in entries] == [
        "pkg",
        "pkg.mod",
        "pkg.mod.public",
        "pkg.mod.Thing",
        "pkg.mod.Thing.method",
        "a",
        "b",
    ]


def test_entry_carries_signature_source_and_clean_text(library):
    """The first definition of a name counts, with its parameters and its file."""
    entry = {entry.name: entry for entry in read_entries(library)}["pkg.mod.public"]

    assert entry.signature == "(a, *, b=1)"
    assert entry.source == "pkg/mod.py"
    assert entry.text == "Do a public thing with a.\n\nReturns what it did."
    assert entry.is_docstring


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("One\n   line.", "One line."),
        ("One.\n\n\nTwo.", "One.\n\nTwo."),
        ("Title\n=====\nText.", "Title\n\nText."),
        ("List:\n - a\n   more\n - b", "List:\n- a more\n- b"),
        (">>> f(\n...   1)\n2", ">>> f(\n... 1) 2"),
        ("\n\nOne.", "One."),
        (" \n", ""),
    ],
)
def test_white_space_is_collapsed_within_paragraphs(text, wanted):
    """Paragraphs, list items and example lines keep a line each; rules become blank lines."""
    assert clean(text) == wanted

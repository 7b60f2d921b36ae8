"""What code is known by, wherever it stands and whoever runs it."""

from __future__ import annotations

import pytest

from sage_dask.fingerprint.code_digest import class_code, digest, function_code

CLEAN = """
def clean(record):
    '''Make it clean.'''
    try:
        words = [word for word in record["text"].split() if word not in {"a", "b", "c"}]
    except KeyError:
        return None
    return {**record, "text": " ".join(words), "length": len(words) / 2}
"""


def made(source, name="clean", file="one.py"):
    """Return what a source defines, as a module of a user would."""
    space = {"__name__": "flow"}
    exec(compile(source, file, "exec"), space)
    return space[name]


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("\n" * 70 + CLEAN, id="further down"),
        pytest.param(CLEAN.replace("Make it clean.", "Clean it."), id="docstring changed"),
        pytest.param(CLEAN.replace("    '''Make it clean.'''\n", ""), id="docstring gone"),
        pytest.param(CLEAN.replace("words", "parts"), id="local variable renamed"),
        pytest.param(CLEAN.replace("(record)", "(record: dict) -> dict"), id="annotated"),
        pytest.param(CLEAN.replace("    return None", "    return None  # ok"), id="comment"),
    ],
)
def test_what_does_not_change_the_work_does_not_change_the_code(source):
    """Place, docstring, names of local variables, annotations and comments do not count."""
    assert function_code(made(source, file="/elsewhere/two.py")) == function_code(made(CLEAN))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"text"]', '"body"]'),
        ("/ 2", "/ 3"),
        ("/ 2", "// 2"),
        ("/ 2", "/ 2.0"),
        ('"c"', '"d"'),
        ("not in", "in"),
        ("/ 2", "/ '2'"),
        ("KeyError", "LookupError"),
        ("split", "rsplit"),
        ("return None", "return {}"),
        ("len(words)", "sum(words)"),
    ],
)
def test_what_changes_the_work_changes_the_code(old, new):
    """Constants, operators, names and what stands in inner functions count, types included."""
    assert function_code(made(CLEAN.replace(old, new))) != function_code(made(CLEAN))


def test_what_a_try_covers_counts():
    """The same instructions with another one guarded are other code."""
    one = "def clean(r):\n  try:\n    a(r)\n    b(r)\n  finally:\n    c()"
    two = "def clean(r):\n  a(r)\n  try:\n    b(r)\n  finally:\n    c()"

    assert function_code(made(one)) != function_code(made(two))


def test_a_function_that_was_called_often_is_the_same():
    """Python rewrites instructions that run often; the code is what was written."""
    clean = made(CLEAN)
    before = function_code(clean)

    for _ in range(2000):
        clean({"text": "a b c d"})

    assert function_code(clean) == before


def test_the_order_of_keys_does_not_change_a_digest():
    """Equal dicts have one digest, however they were filled."""
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})


def test_functions_of_python_and_of_this_package_have_no_code():
    """A new release of what a pipeline uses is no change of the pipeline."""
    import textwrap

    assert function_code(textwrap.dedent) == []
    assert function_code(digest) == []
    assert class_code(textwrap.TextWrapper) == []


METHODS = """
import functools
from collections.abc import Sized
class Base:
    def shared(self): return 1
class Work(Base, Sized):
    '''Work.'''
    def __init__(self): self.made = 1
    def __len__(self): return 1
    def __call__(self, r): return self._inner(r) + 2
    def _inner(self, r): return 3
    @staticmethod
    def fixed(): return 4
    @classmethod
    def of(cls): return 5
    @property
    def size(self): return 6
    @functools.cached_property
    def kept(self): return 7
"""


@pytest.mark.parametrize("number", range(1, 8))
def test_every_method_of_a_class_counts(number):
    """Plain, private, static and class methods, properties, and those of a base beside it."""
    changed = METHODS.replace(f"return {number}", "return 99").replace(
        "+ 2", f"+ {2 + (number == 2)}"
    )

    same = class_code(made("\n\n" + METHODS, "Work"))

    assert class_code(made(METHODS, "Work")) == same != class_code(made(changed, "Work"))

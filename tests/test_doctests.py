"""Every example in a docstring runs and shows what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import sage_dask

NAMES = [
    module.name
    for module in pkgutil.walk_packages(sage_dask.__path__, "sage_dask.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", NAMES)
def test_examples_run_as_they_are_written(name, tmp_path, monkeypatch):
    """A user who copies an example sees the same result; files go to a folder of their own."""
    monkeypatch.chdir(tmp_path)

    results = doctest.testmod(importlib.import_module(name))

    assert results.failed == 0


def test_there_are_examples():
    """The search finds modules with examples: an empty run would prove nothing."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    with_examples = {
        name
        for name in NAMES
        for test in finder.find(importlib.import_module(name))
        if test.examples
    }

    assert {"sage_dask.pipeline", "sage_dask.operators.memory"} <= with_examples

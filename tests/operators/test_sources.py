"""The names that pipelines and YAML files use for sources."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import pytest

from sage_dask.operators import sources
from sage_dask.stage import Source


@pytest.mark.parametrize("name", sources.__all__)
def test_each_source_is_a_plain_declaration(name: str):
    """A source is a dataclass whose parameters are not hidden by its methods."""
    kind = getattr(sources, name)

    assert Source in kind.__mro__
    assert is_dataclass(kind)
    assert not {field.name for field in fields(kind)} & set(dir(Source))

"""The names that pipelines and YAML files use for sinks."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import pytest

from sage_dask.operators import sinks
from sage_dask.stage import Sink


@pytest.mark.parametrize("name", sinks.__all__)
def test_each_sink_is_a_plain_declaration(name: str):
    """A sink is a dataclass whose parameters are not hidden by its methods."""
    kind = getattr(sinks, name)

    assert Sink in kind.__mro__
    assert is_dataclass(kind)
    assert not {field.name for field in fields(kind)} & set(dir(Sink))

"""The rule that names a worker's node."""

from __future__ import annotations

import pytest

from sage_dask.nodes import node_name


@pytest.mark.parametrize(("declared", "named"), [("rack1-a", "rack1-a"), (7, "7"), (0, "0")])
def test_what_is_declared_is_the_name(declared, named):
    """A declared name counts, also where Dask read the digits of a variable as a number."""
    assert node_name(declared, "10.0.0.7") == named


@pytest.mark.parametrize("declared", [None, ""])
def test_without_a_declaration_the_host_is_the_name(declared):
    """Nothing declared, or an empty variable, leaves the host."""
    assert node_name(declared, "10.0.0.7") == "10.0.0.7"

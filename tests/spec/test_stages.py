"""What a stage has beside its operator, in a specification."""

from __future__ import annotations

from sage_dask.operators.basic import Select
from sage_dask.spec.stages import OPTIONS, options_of
from sage_dask.stage import Stage


def test_options_at_their_defaults_are_left_out():
    """Only what was chosen is written down."""
    assert options_of(Stage("keep", Select(["x"]))) == {}


def test_a_deadline_and_isolation_are_options():
    """Both can be written in YAML, as every field of a stage but its operator."""
    stage = Stage("keep", Select(["x"]), deadline_s=2.5, isolate=True)

    assert options_of(stage) == {"deadline_s": 2.5, "isolate": True}
    assert set(options_of(stage)) <= set(OPTIONS)

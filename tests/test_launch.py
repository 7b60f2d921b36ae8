"""How a run was started travels beside its options, and survives as JSON."""

from __future__ import annotations

from sage_dask.launch import Launch, current_launch, launched
from sage_dask.options import RunOptions

LAUNCH = Launch("p.yaml", "/work", {"nodes": 2, "gates": [["llm", 3]]}, "sage-dask resume r")


def test_json_says_it_all():
    """The way there and back loses nothing."""
    assert Launch.from_json(LAUNCH.as_json()) == LAUNCH


def test_runs_in_the_block_know_how_they_were_started():
    """Options that are made there have it, and those made before and after do not."""
    with launched(LAUNCH):
        within = RunOptions()

    assert within.launch == LAUNCH
    assert RunOptions().launch is None
    assert current_launch() is None

"""What a batch was made of."""

from __future__ import annotations

from sage_dask.intake import Intake, Places
from sage_dask.record import Batch


def test_a_run_without_a_journal_keeps_no_places():
    """Nothing is kept per record where nobody will ask for it."""
    intake = Intake(Batch(0, ["a"], [{}]), Places())

    assert (intake.places, intake.inputs) == (Places((), (), (), (), ()), None)

"""What Dask's configuration says of us, from a file or the environment."""

from __future__ import annotations

import dask
import pytest
from dask.config import collect_env

from sage_dask.scheduling.on_dask.configured import is_observed, may_control


@pytest.mark.parametrize(
    ("environment", "observed", "control"),
    [
        ({}, True, False),
        ({"DASK_SAGE__OBSERVE": "false"}, False, False),
        ({"DASK_SAGE__ALLOW_CONTROL": "true"}, True, True),
        ({"DASK_SAGE__ALLOW_CONTROL": "maybe"}, True, False),
    ],
)
def test_the_environment_says_what_is_observed_and_allowed(environment, observed, control):
    """Watching is on unless it is switched off, and changing off unless it is switched on."""
    with dask.config.set(collect_env(environment)):
        assert (is_observed(), may_control()) == (observed, control)

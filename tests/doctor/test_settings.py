"""Settings that cost work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sage_dask.cluster.local import SETTINGS
from sage_dask.doctor.finding import Mark
from sage_dask.doctor.settings import SchedulerSettings, setting_findings

OURS = SchedulerSettings(
    worker_ttl_s=60,
    allowed_failures=0,
    lost_worker_timeout_s=3600,
    no_workers_timeout_s=None,
    steals_work=True,
)


def test_settings_of_nodes_of_ours_are_well():
    """With the dispatcher, work stealing has nothing to steal."""
    (found,) = setting_findings(OURS, SETTINGS, has_dispatcher=True)

    assert found.mark is Mark.OK


@pytest.mark.parametrize(
    ("change", "mark", "value", "advice"),
    [
        ({"worker_ttl_s": 300}, Mark.WARN, "worker-ttl is 300 s", "SCHEDULER__WORKER_TTL=60s"),
        ({"worker_ttl_s": None}, Mark.WARN, "worker-ttl is never", "WORKER_TTL=60s"),
        ({"allowed_failures": 3}, Mark.NOTE, "allowed-failures is 3", "ALLOWED_FAILURES=0"),
        (
            {"lost_worker_timeout_s": 15},
            Mark.NOTE,
            "lost-worker-timeout is 15 s",
            "DEPLOY__LOST_WORKER_TIMEOUT=1h",
        ),
        (
            {"no_workers_timeout_s": 60},
            Mark.WARN,
            "no-workers-timeout is 60 s",
            "the dispatcher holds back fail after that time: set DASK_DISTRIBUTED__SCHEDULER__",
        ),
    ],
)
def test_a_setting_that_costs_work_says_how_to_set_it(change, mark, value, advice):
    """What holds, and the variable with the value that ours have."""
    (found,) = setting_findings(replace(OURS, **change), SETTINGS, has_dispatcher=True)

    assert (found.mark, found.value) == (mark, value)
    assert advice in found.advice


def test_work_stealing_counts_where_dask_places():
    """Without the dispatcher nothing is pinned."""
    (found,) = setting_findings(OURS, SETTINGS, has_dispatcher=False)

    assert found.mark is Mark.NOTE
    assert "WORK_STEALING=false" in found.advice

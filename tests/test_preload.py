"""A scheduler that places our tasks from the first one on."""

from __future__ import annotations

import asyncio

import dask
import pytest
from distributed import LocalCluster, Scheduler

from sage_dask import Collect, FromIterable, Pipeline
from sage_dask.dashboard.monitor import MonitorPlugin
from sage_dask.scheduling.on_dask.plugin import DispatchPlugin

PRELOAD = "sage_dask.preload"


def policy_of_preloaded(**settings):
    """Return the policy that a scheduler with the preload begins with."""
    return preloaded(
        lambda scheduler: scheduler.plugins[DispatchPlugin.name].dispatcher.policy.name, **settings
    )


def preloaded(look, **settings):
    """Start a scheduler with the preload, and return what is to be seen of it."""

    async def start():
        async with Scheduler(
            host="127.0.0.1", dashboard=False, dashboard_address="127.0.0.1:0", preload=[PRELOAD]
        ) as scheduler:
            return look(scheduler)

    with dask.config.set(settings):
        return asyncio.run(start())


def test_a_preloaded_scheduler_has_a_dispatcher():
    """With the default policy unless another one is set."""
    assert policy_of_preloaded() == "spread"


def test_a_preloaded_scheduler_places_tasks():
    """Dask starts plugins that preloads brought: started twice, a dispatcher stopped itself."""
    source = FromIterable([{"value": number} for number in range(8)])
    pipeline = Pipeline("double").source(source).map(_doubled, name="double").sink(Collect())

    with LocalCluster(
        1,
        threads_per_worker=1,
        processes=False,
        dashboard_address=None,
        scheduler_kwargs={"preload": [PRELOAD]},
    ) as cluster:
        report = pipeline.run(cluster, batch_size=4, max_stall_s=5)

    assert report.num_written == 8


def _doubled(record):
    """Return a record twice as large."""
    return {**record, "value": 2 * record["value"]}


def test_the_policy_is_a_setting_of_dask():
    """Which may come from the environment, as DASK_SAGE__POLICY."""
    assert policy_of_preloaded(**{"sage.policy": "pack"}) == "pack"


def test_a_preloaded_scheduler_shows_jobs():
    """Before the first one, there are none to see."""
    jobs = preloaded(lambda scheduler: scheduler.plugins[MonitorPlugin.name].snapshot().jobs)

    assert jobs == []


def test_a_preloaded_scheduler_may_be_told_to_show_nothing():
    """DASK_SAGE__OBSERVE=false leaves the dispatcher."""
    plugins = preloaded(lambda scheduler: set(scheduler.plugins), **{"sage.observe": False})

    assert DispatchPlugin.name in plugins
    assert MonitorPlugin.name not in plugins


def test_an_unknown_policy_is_told_in_the_schedulers_log(caplog):
    """Dask starts without what a preload failed to bring, so the log has to say why."""
    with pytest.raises(KeyError, match="sage-dask-dispatcher"):
        policy_of_preloaded(**{"sage.policy": "pakc"})

    assert "unknown policy 'pakc'" in caplog.text

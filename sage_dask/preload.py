"""Loaded by a scheduler as it starts.

``dask scheduler --preload sage_dask.preload`` places tasks and shows jobs from the first.  The
setting ``sage.policy`` (``DASK_SAGE__POLICY=pack`` in the environment) names the policy
to begin with.
"""

from __future__ import annotations

import dask
from distributed import Scheduler

from sage_dask.dashboard.monitor import MonitorPlugin
from sage_dask.scheduling.on_dask.configured import is_observed
from sage_dask.scheduling.on_dask.plugin import DispatchPlugin
from sage_dask.scheduling.on_dask.settings import Settings
from sage_dask.scheduling.policies import DEFAULT, make_policy


async def dask_setup(scheduler: Scheduler) -> None:
    """Place tasks of ours from the first one on, and let people watch."""
    policy = make_policy(dask.config.get("sage.policy", DEFAULT))
    # Added only: Dask starts whatever it has, right after the preloads.  Started here too, the
    # dispatcher took itself for its own predecessor, stopped it, and nothing was ever placed.
    # The monitor first: there may be something to say of the start.
    if is_observed():
        scheduler.add_plugin(MonitorPlugin(), name=MonitorPlugin.name, idempotent=True)
    scheduler.add_plugin(
        DispatchPlugin(Settings(policy)), name=DispatchPlugin.name, idempotent=True
    )

"""Loaded by a scheduler as it starts.

``dask scheduler --preload sage_dask.scheduling.on_dask.preload`` places tasks from the first.  The
setting ``sage.policy`` (``DASK_SAGE__POLICY=pack`` in the environment) names the policy
to begin with.
"""

from __future__ import annotations

import dask
from distributed import Scheduler

from sage_dask.scheduling.on_dask.plugin import DispatchPlugin
from sage_dask.scheduling.on_dask.settings import Settings
from sage_dask.scheduling.policies import DEFAULT, make_policy


async def dask_setup(scheduler: Scheduler) -> None:
    """Place tasks of ours from the first one on."""
    policy = make_policy(dask.config.get("sage.policy", DEFAULT))
    await scheduler.register_scheduler_plugin(
        DispatchPlugin(Settings(policy)), name=DispatchPlugin.name, idempotent=True
    )

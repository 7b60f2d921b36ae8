"""What an operator chose outlives a dispatcher."""

from __future__ import annotations

import pickle

from sage_dask.scheduling.on_dask.settings import Settings
from sage_dask.scheduling.policies import make_policy


def test_a_dispatcher_is_made_with_everything_that_was_chosen():
    """Policy, limits and shares are there before the first task."""
    settings = Settings(
        "pack",
        on_policy_error="fallback",
        gates={"llm": 4},
        weights={"rag": 2.0},
        quotas={"rag/1": {"threads": 3}},
    )

    core = settings.make_dispatcher(lambda: 0.0)
    core.job_arrived("rag/1")
    job = core.jobs.obtain("rag/1")

    assert core.policy == make_policy("pack")
    assert core.on_policy_error == "fallback"
    assert core.gates["llm"].limit == 4
    assert (job.weight, job.quota) == (2.0, {"threads": 3})


def test_settings_travel_to_the_scheduler():
    """They are pickled with the plugin, a policy's parameters included."""
    settings = Settings(make_policy("priority", ageing=0.5), gates={"llm": 4})

    assert pickle.loads(pickle.dumps(settings)) == settings

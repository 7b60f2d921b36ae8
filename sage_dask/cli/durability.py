"""What a command line may ask of a run folder, looked at before anything is started."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from sage_dask.durable.run_folder import PIPELINE
from sage_dask.errors import PlanError
from sage_dask.fingerprint.changes import refuse_changes
from sage_dask.fingerprint.description import describe, from_json
from sage_dask.journal.opening import has_journal, open_store
from sage_dask.plan import Plan

# Options that are about a run's journal.
_FLAGS = {
    "retry_failed": "--retry-failed",
    "accept_changes": "--accept-changes",
    "extend": "--extend",
    "follow": "--follow",
    "reconnect": "--reconnect",
}


def refuse_without_journal(given: Mapping[str, Any]) -> None:
    """Refuse options that a run without a journal can not follow.

    Raises:
        PlanError: One was given.
    """
    said = [flag for name, flag in _FLAGS.items() if given.get(name)]
    if said:
        raise PlanError(
            f"{', '.join(said)} given, and the run keeps no journal; add --run-dir DIR, and leave "
            "out --no-durable"
        )


def check_folder(run_dir: Path, plan: Plan, accepted: Collection[str]) -> None:
    """Refuse a pipeline that is not the one a run was begun with.

    The run itself looks again, once the folder is its own; but starting nodes takes seconds.

    Raises:
        PlanError: The pipeline changed.
        RunError: The journal can not be read.
    """
    if not has_journal(run_dir):
        return
    store = open_store(run_dir, read_only=True)
    try:
        known = store.facts().get(PIPELINE)
    finally:
        store.close()
    if known is not None:
        stages = [stage for task in plan.stages for stage in task.stages]
        refuse_changes(from_json(known), describe(plan.pipeline, stages), accepted)

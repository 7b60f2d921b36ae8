"""Why tasks of a run are not done yet, as the scheduler knows it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from dask.typing import Key
from distributed import Client, Scheduler

from sage_dask.errors import counted
from sage_dask.scheduling.on_dask.remote import predecessor_of

# A worker is heard of twice a second.
_SILENT_S = 10.0

# How long to wait for a scheduler that may itself be what holds the run up.
_ANSWER_S = 5.0


def standstill(client: Client, keys: Sequence[Key]) -> str:
    """Return what the oldest of some tasks waits for, in words.

    Args:
        client: Of the cluster.
        keys: Of the last tasks of batches that are under way, oldest first.
    """
    try:
        told: str = client.sync(
            client._run_on_scheduler,
            explain,
            list(keys),
            wait=True,
            callback_timeout=_ANSWER_S,
        )
    except TimeoutError:
        return f"the scheduler at {client.scheduler.address} gives no answer in {_ANSWER_S:.0f} s"
    except Exception as error:
        # A run must not end because nobody can say why it waits.
        return f"the scheduler can not say why ({type(error).__name__}: {error})"
    return told


def explain(keys: Sequence[Key], dask_scheduler: Scheduler) -> str:
    """Return what the first of some tasks that is known waits for; run by the scheduler."""
    workers = dask_scheduler.workers.values()
    if not workers:
        return "the cluster has no workers; start some, or look why they went"
    paused = [worker for worker in workers if worker.status.name == "paused"]
    if len(paused) == len(workers):
        return (
            f"all {counted(len(paused), 'worker')} are paused for want of memory; give them more, "
            "or smaller batches"
        )
    tasks = [dask_scheduler.tasks[key] for key in keys if key in dask_scheduler.tasks]
    pending = [each for task in tasks for each in _unfinished(task)]
    if not pending:
        return "what was under way is done, and its results are on their way here"
    return f"{_waits_for(dask_scheduler, pending[0])}; batches under way: {len(tasks)}"


def _unfinished(task: Any) -> list[Any]:
    """Return the first tasks of a chain that are not done."""
    waiting_on = [each for before in task.waiting_on or () for each in _unfinished(before)]
    return waiting_on or ([] if task.state == "memory" else [task])


def _waits_for(scheduler: Scheduler, task: Any) -> str:
    worker = task.processing_on
    name = f"task {task.key!r}"
    if worker is None:
        return f"{name} {_held(scheduler, task.key)}"
    silent_s = time.time() - worker.last_seen
    if silent_s > _SILENT_S:
        return f"{name} is on worker {worker.name}, which was last heard of {silent_s:.0f} s ago"
    if worker.status.name == "paused":
        return f"{name} is on worker {worker.name}, which is paused for want of memory"
    running_s = worker.executing.get(task)
    if running_s is None:
        return f"{name} is on worker {worker.name} and waits there for a thread or for answers"
    return f"{name} has been running on worker {worker.name} for {running_s:.0f} s"


def _held(scheduler: Scheduler, key: Key) -> str:
    """Return why a task has no worker: the dispatcher's last word on it, where there is one."""
    host = predecessor_of(scheduler)
    story = host.dispatcher.why(key, time.monotonic()) if host is not None else []
    if not story:
        return "has no worker that may run it; see what resources it needs"
    # Its last line is of now, and set out as the others, which begin with a time.
    return " ".join(story[-1].split()).removeprefix("now ")

"""What clients may ask the dispatcher of a scheduler: the scheduler's end of the line."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import Any, TypeAlias

from distributed.protocol import pickle
from distributed.scheduler import Scheduler

from sage_dask.errors import SageError
from sage_dask.scheduling.dispatcher import OnPolicyError
from sage_dask.scheduling.on_dask.host import Host
from sage_dask.scheduling.on_dask.orders import Order
from sage_dask.scheduling.policies import make_policy
from sage_dask.scheduling.policy import Policy
from sage_dask.scheduling.statistics import DispatcherStatistics
from sage_dask.scheduling.view import Key

# Name of the remote procedure on the scheduler.
HANDLER = "sage_dask"

# Tasks whose stories one question may bring.
_MOST_TASKS = 5

Story: TypeAlias = tuple[str, list[str]]


class Remote:
    """Answers clients; each public method but ``answer`` is a question.

    Questions and answers are pickled, as all that clients tell a Dask scheduler is.
    """

    def __init__(self, host: Host) -> None:
        self.host = host

    async def answer(self, question: str, arguments: bytes) -> bytes:
        """Answer one question; an error of ours is an answer too."""
        methods: Mapping[str, Callable[..., Any]] = {
            method.__name__: method
            for method in (
                self.set_policy,
                self.set_gate,
                self.set_weight,
                self.set_quota,
                self.set_paused,
                self.statistics,
                self.why,
                self.detach,
            )
        }
        try:
            result = methods[question](*pickle.loads(arguments))
            if isinstance(result, Awaitable):
                result = await result
        except SageError as error:
            result = error
        pickled: bytes = pickle.dumps(result)
        return pickled

    def set_policy(self, policy: str | Policy, on_policy_error: OnPolicyError | None) -> None:
        """Have a policy decide from now on; None leaves what is done about its errors."""
        self.host.settings.policy = chosen = make_policy(policy)
        if on_policy_error is not None:
            self.host.settings.on_policy_error = on_policy_error
            self.host.dispatcher.on_policy_error = on_policy_error
        self.host.dispatcher.set_policy(chosen)
        self.host.kick()

    def set_gate(self, name: str, limit: float | None) -> None:
        """Set the slots of a gate; None for no limit."""
        self.host.dispatcher.set_gate(name, limit)
        if limit is None:
            self.host.settings.gates.pop(name, None)
        else:
            self.host.settings.gates[name] = limit
        self.host.kick()

    def set_weight(self, job: str, weight: float) -> None:
        """Set the share of a job, or of each job of a pipeline."""
        self.host.dispatcher.set_weight(job, weight)
        self.host.settings.weights[job] = weight
        self.host.kick()

    def set_quota(self, job: str, quota: Mapping[str, float]) -> None:
        """Set the most that a job, or each job of a pipeline, may hold."""
        self.host.dispatcher.set_quota(job, quota)
        self.host.settings.quotas[job] = dict(quota)
        self.host.kick()

    def set_paused(self, job: str, is_paused: bool, by: str) -> None:
        """Have a job start nothing until it is resumed, and tell its driver."""
        self.host.dispatcher.set_paused(job, is_paused)
        (self.host.settings.paused.add if is_paused else self.host.settings.paused.discard)(job)
        Order(job, "pause" if is_paused else "resume", by).send(self.host.scheduler.log_event)
        self.host.kick()

    def statistics(self) -> DispatcherStatistics:
        """Return counts of everything."""
        return self.host.dispatcher.statistics(time.monotonic())

    def why(self, text: str) -> list[Story]:
        """Return the stories of the tasks whose key is ``text``, or has it in it."""
        dispatcher, now_s = self.host.dispatcher, time.monotonic()

        def matches(key: Key) -> bool:
            return text in str(key)

        waiting = (entry.task.key for entry in dispatcher.queue.entries())
        found = dict.fromkeys(
            [
                *islice(dispatcher.stories.find(lambda key: str(key) == text), 1),
                *islice(dispatcher.stories.find(matches), _MOST_TASKS),
                *islice(filter(matches, waiting), _MOST_TASKS),
            ]
        )
        return [(str(key), dispatcher.why(key, now_s)) for key in islice(found, _MOST_TASKS)]

    async def detach(self) -> None:
        """Leave stock Dask behind."""
        await self.host.detach()


def predecessor_of(scheduler: Scheduler) -> Host | None:
    """Return who answers clients so far; unregistered, a plugin is not in Dask's list any more."""
    remote = getattr(scheduler.handlers.get(HANDLER), "__self__", None)
    return remote.host if isinstance(remote, Remote) else None

"""What an operator sees and changes of the scheduling on a cluster, while jobs run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from distributed import Client, Scheduler
from distributed.protocol import pickle

from sage_dask.errors import RunError, SageError
from sage_dask.scheduling.dispatcher import OnPolicyError
from sage_dask.scheduling.on_dask.arrivals import Arrivals
from sage_dask.scheduling.on_dask.configured import is_observed
from sage_dask.scheduling.on_dask.keeping import TOPIC
from sage_dask.scheduling.on_dask.orders import Order, who
from sage_dask.scheduling.on_dask.plugin import DispatchPlugin
from sage_dask.scheduling.on_dask.remote import HANDLER, Story
from sage_dask.scheduling.on_dask.settings import Settings
from sage_dask.scheduling.on_dask.topics import listening
from sage_dask.scheduling.on_dask.versions import version_notice
from sage_dask.scheduling.on_dask.watch import IDLE_TOPIC
from sage_dask.scheduling.on_dask.wire import SERVERS
from sage_dask.scheduling.policies import make_policy
from sage_dask.scheduling.policy import Policy
from sage_dask.scheduling.statistics import DispatcherStatistics, Notice

logger = logging.getLogger("sage_dask")

Listener = Callable[[Notice], None]

# ``limit``, ``wanted`` requests in all, and ``down_s``, for how long it has been down.
ServerStatus: TypeAlias = Mapping[str, float | None]


class SchedulerControl:
    """The dispatcher of a Dask cluster, from any client.

    Args:
        client: Connected; stays open.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def start(self, settings: Settings | None = None) -> None:
        """Start a dispatcher where there is none yet.

        Args:
            settings: What a new one begins with; one that is there keeps its own.
        """
        notice = version_notice()
        if notice is not None:
            # Client and scheduler are of one release, and nobody listens to the scheduler yet.
            _log(notice)
        self._client.register_plugin(DispatchPlugin(settings))
        if is_observed():
            self._client.register_plugin(Arrivals())

    @property
    def is_started(self) -> bool:
        """Whether the cluster has a dispatcher; else Dask places all tasks."""
        plugins: Any = self._client.run_on_scheduler(_plugin_names)
        return DispatchPlugin.name in plugins

    @property
    def policy(self) -> str:
        """Name of the policy that decides."""
        return self.statistics().policy

    def gates(self) -> Mapping[str, float]:
        """Return the limits of gates that were set."""
        if not self.is_started:
            return {}
        statistics = self.statistics().gates
        return {name: gate.limit for name, gate in statistics.items() if gate.limit is not None}

    def set_policy(
        self,
        policy: str | Policy,
        *,
        on_policy_error: OnPolicyError | None = None,
        **parameters: Any,
    ) -> None:
        """Have another policy decide; what waits follows it at once.

        Args:
            policy: Its name, or an instance of your own, which has to be importable there.
            on_policy_error: ``"fail"`` or ``"fallback"``; None leaves that as it is.
            parameters: Of the policy, such as ``target_wait_s=1.0``.
        """
        chosen = make_policy(policy, **parameters)
        self._ask("set_policy", chosen, on_policy_error)

    def set_gate(self, name: str, limit: float | None) -> None:
        """Set how many slots a gate has: 0 closes it, None takes the limit away."""
        self._ask("set_gate", name, limit)

    def set_weight(self, job: str, weight: float) -> None:
        """Set the share of a job (``"pipeline/id"``), or of each job of a pipeline."""
        self._ask("set_weight", job, weight)

    def set_quota(self, job: str, quota: Mapping[str, float]) -> None:
        """Set the most that a job, or each job of a pipeline, may hold at once.

        By worker resource, by gate, or of ``"threads"``; an empty one takes the quota away.
        """
        self._ask("set_quota", job, dict(quota))

    def pause(self, job: str) -> None:
        """Have a job (``"pipeline/id"``) start nothing until it is resumed.

        What runs, runs on; requests of it go on to their servers.
        """
        self._ask("set_paused", job, True, who())

    def resume(self, job: str) -> None:
        """Have a paused job go on."""
        self._ask("set_paused", job, False, who())

    def cancel(self, job: str) -> None:
        """Have the driver of a job (``"pipeline/id"``) end it at once, dispatcher or not.

        What is done is kept, so that a run with a folder goes on when it is run again.
        """
        Order(job, "cancel", who()).send(self._client.log_event)

    def statistics(self) -> DispatcherStatistics:
        """Return counts of everything: queue, decisions, gates, jobs, nodes."""
        answer: DispatcherStatistics = self._ask("statistics")
        return answer

    def why(self, key: str) -> list[Story]:
        """Return the stories of a task, or of the latest few whose keys contain ``key``."""
        answer: list[Story] = self._ask("why", key)
        return answer

    def detach(self) -> None:
        """Leave stock Dask behind; tasks that wait are placed by it."""
        self._ask("detach")

    @contextmanager
    def notices(self, listener: Listener | None = None) -> Iterator[None]:
        """Listen to notices, such as of tasks that nothing can run; by default they are logged."""
        listener = listener or _log

        def receive(said: Mapping[str, str]) -> None:
            listener(Notice(said["kind"], said["text"]))

        with listening(self._client, TOPIC, receive):
            yield

    @contextmanager
    def servers(self, listener: Callable[[Mapping[str, ServerStatus]], None]) -> Iterator[None]:
        """Hear how model servers are doing, by endpoint, each time that changes."""
        with listening(self._client, SERVERS, listener):
            yield

    @contextmanager
    def idle_nodes(self, listener: Callable[[Sequence[str]], None]) -> Iterator[None]:
        """Hear which nodes have had nothing to do for a while, each time that changes.

        They could be switched off; ``pack`` keeps as many nodes idle as it can.
        """

        def receive(nodes: Sequence[str]) -> None:
            listener(list(nodes))

        with listening(self._client, IDLE_TOPIC, receive):
            yield

    def _ask(self, question: str, *arguments: Any) -> Any:
        remote = getattr(self._client.scheduler, HANDLER)
        pickled = self._client.sync(remote, question=question, arguments=pickle.dumps(arguments))
        if pickled is None:
            # A scheduler's answer to whatever it has no procedure for.
            raise RunError(
                f"scheduler {self._client.scheduler.address} places tasks as stock Dask does; run "
                "a pipeline with a policy first, or start it with '--preload sage_dask.preload'"
            )
        answer = pickle.loads(pickled)
        if isinstance(answer, SageError):
            raise answer
        return answer


def _plugin_names(dask_scheduler: Scheduler) -> list[str]:
    return list(dask_scheduler.plugins)


def _log(notice: Notice) -> None:
    logger.warning("%s", notice.text)

"""Tasks that Dask keeps for us: how one is held, let go to a worker, and set free.

A held task has a worker restriction that nothing satisfies, so Dask leaves it in
its ``no-worker`` state.  What the user asked for is in the task's annotations
all the time, from where it is read when it counts and restored when we leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from distributed.scheduler import Scheduler, TaskState, WorkerState

from sage_dask.nodes import NODE, node_name
from sage_dask.schedule import SAGE, finite, job_name
from sage_dask.scheduling.on_dask.wire import PLACED
from sage_dask.scheduling.statistics import Start
from sage_dask.scheduling.view import Demand, TaskView, demand
from sage_dask.spent import LOST, SCHEDULING

_HELD = "sage://held"

_RESTRICTIONS = ("workers", "restrictions", "allow_other_workers", "loose_restrictions")


@dataclass(slots=True)
class Held:
    """What the plugin knows of one of its tasks."""

    state: TaskState
    job: str
    stage: str
    gates: Mapping[str, float]
    threads: float
    endpoints: tuple[str, ...]
    requests: int
    priority: float
    arrived_s: float
    waits: dict[str, float] = field(default_factory=dict)
    """What it has waited for so far, over all its tries."""

    def place(self, start: Start, decided_s: float, now_s: float) -> None:
        """Let the task go to a worker, and tell that worker why and after what waits.

        Args:
            start: The decision.
            decided_s: The time that the dispatcher was told.
            now_s: When it is carried out.
        """
        self.waited(start.waits)
        self._add(SCHEDULING, now_s - decided_s)
        told = {"waits": dict(self.waits), "reason": start.reason}
        # A dict of its own: those that Dask makes are of one task, but who else holds them?
        self.state.annotations = {**(self.state.annotations or {}), PLACED: told}
        pin(self.state, start.worker)

    def waited(self, waits: Mapping[str, float]) -> None:
        """Note what it has waited for, since it came or since it was noted last."""
        for what, seconds in waits.items():
            self._add(what, seconds)

    def lost(self, seconds: float) -> None:
        """Note a try that came to nothing, if another one follows."""
        self._add(LOST, seconds)

    def _add(self, what: str, seconds: float) -> None:
        self.waits[what] = self.waits.get(what, 0.0) + seconds

    def view(self, scheduler: Scheduler, now_s: float) -> TaskView:
        """Return the task as the dispatcher sees it when its inputs are there."""
        state = self.state
        inputs, inputs_bytes = _inputs(state) if state.dependencies else ({}, 0)
        return TaskView(
            key=state.key,
            job=self.job,
            stage=self.stage,
            demand=_demand(
                tuple((state.resource_restrictions or {}).items()),
                tuple(self.gates.items()),
                self.threads,
                self.endpoints,
                _allowed(scheduler, state.annotations or {}),
            ),
            requests=self.requests,
            priority=self.priority,
            arrived_s=self.arrived_s,
            ready_s=now_s,
            rank=state.priority or (),
            inputs=inputs,
            inputs_bytes=inputs_bytes,
        )


def is_ours(state: TaskState) -> bool:
    """Return whether a task is to be placed by us; actors are pinned for life and are not."""
    return SAGE in (state.annotations or {}) and not state.actor and state.run_spec is not None


def held(state: TaskState, now_s: float) -> Held:
    """Return what a task's annotation says."""
    said = (state.annotations or {})[SAGE]
    pipeline = str(said.get("pipeline", "task"))
    return Held(
        state,
        job=job_name(pipeline, said.get("job", "")),
        stage=f"{pipeline}/{said.get('stage', state.prefix.name)}",
        gates=dict(said.get("gates", {})),
        threads=said.get("threads", 1),
        endpoints=tuple(said.get("endpoints", ())),
        requests=said.get("requests", 0),
        # Anyone may write an annotation, and infinite ones would stop all ageing.
        priority=finite(said.get("priority")) or 0.0,
        arrived_s=now_s,
    )


def hold(state: TaskState) -> None:
    """Keep a task from being placed by Dask."""
    state.worker_restrictions = {_HELD}
    # Hosts are alternatives to workers in Dask's eyes, so they would let the task through.
    state.host_restrictions = None
    state.loose_restrictions = False


def pin(state: TaskState, address: str) -> None:
    """Have Dask place a task on one worker and no other."""
    state.worker_restrictions = {address}


def set_free(scheduler: Scheduler, state: TaskState) -> None:
    """Give a task back the restrictions that it came with."""
    state.worker_restrictions = state.host_restrictions = None
    state.loose_restrictions = False
    annotations = dict(state.annotations)
    annotations.pop(PLACED, None)
    restrictions = {name: annotations[name] for name in _RESTRICTIONS if name in annotations}
    # Dask takes what it is given for all annotations there are.
    scheduler._apply_annotations([state], {}, restrictions)
    state.annotations = annotations


def node_of(worker: WorkerState) -> str:
    """Return the machine that a worker runs on."""
    return node_name(worker.extra.get(NODE), worker.host)


@lru_cache(maxsize=1024)
def _demand(
    resources: tuple[tuple[str, float], ...],
    gates: tuple[tuple[str, float], ...],
    threads: float,
    endpoints: tuple[str, ...],
    workers: frozenset[str] | None,
) -> Demand:
    return demand(
        dict(resources), dict(gates), threads=threads, workers=workers, endpoints=endpoints
    )


def _allowed(scheduler: Scheduler, annotations: Mapping[str, Any]) -> frozenset[str] | None:
    """Return the addresses that the user restricted a task to; None for any.

    Names are looked up now: a worker that was restarted has a new address.
    """
    wanted = annotations.get("workers", annotations.get("restrictions"))
    is_loose = annotations.get("allow_other_workers", annotations.get("loose_restrictions"))
    if not wanted or is_loose:
        return None
    addresses: set[str] = set()
    for name in wanted if isinstance(wanted, list | tuple | set) else [wanted]:
        try:
            addresses.add(scheduler.coerce_address(name))
        except ValueError:
            host = scheduler.host_info.get(scheduler.coerce_hostname(name), {})
            addresses.update(host.get("addresses", ()))
    return frozenset(addresses)


def _inputs(state: TaskState) -> tuple[dict[str, int], int]:
    """Return the bytes of a task's inputs by node, and of all of them."""
    by_node: dict[str, int] = {}
    total = 0
    for dependency in state.dependencies:
        size = dependency.get_nbytes()
        total += size
        for node in {node_of(worker) for worker in dependency.who_has or ()}:
            by_node[node] = by_node.get(node, 0) + size
    return by_node, total

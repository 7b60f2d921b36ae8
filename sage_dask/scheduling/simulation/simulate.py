"""A cluster that exists only in its events, driven by the real dispatcher.

Nothing is decided here: the simulator tells the dispatcher what happened and
carries out what it answers, so what is simulated is what runs.  Between the two
lie the delays of a real cluster.  Events of the same moment are told together,
before the dispatcher is asked once.
"""

from __future__ import annotations

import gc
import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from sage_dask.errors import PlanError, RunError, listed
from sage_dask.scheduling.dispatcher import Dispatcher
from sage_dask.scheduling.policy import Policy
from sage_dask.scheduling.simulation.machines import (
    Attempt,
    Flow,
    ModelServer,
    SimulatedNode,
    SimulatedWorker,
)
from sage_dask.scheduling.simulation.result import Collector, SimulationResult
from sage_dask.scheduling.simulation.scenario import GateChange, Scenario
from sage_dask.scheduling.simulation.workload import Batch, Step, Stream
from sage_dask.scheduling.statistics import Notice, Start
from sage_dask.scheduling.view import Key, TaskView

_TICK_S = 1.0


def simulate(
    scenario: Scenario, policy: str | Policy = "spread", *, keep_rows: bool = False, **options: Any
) -> SimulationResult:
    """Run a scenario to its end; the same one ends in the same way, bit for bit.

    Args:
        scenario: Who works, and on what.
        policy: Who decides where.
        keep_rows: Return a row for each task.
        options: More parameters of the :class:`~.dispatcher.Dispatcher`.

    Raises:
        RunError: Tasks are left that nothing can start, or the time is over; ``PolicyError``
            where the policy did wrong.
        PlanError: A step calls a model server that there is not.
    """
    with _without_cycle_search():
        return _Simulation(scenario, Dispatcher(policy, **options), keep_rows).run()


def compare(
    scenario: Scenario, policies: Iterable[str | Policy], **options: Any
) -> list[SimulationResult]:
    """Run a scenario under each of several policies."""
    return [simulate(scenario, policy, **options) for policy in policies]


@contextmanager
def _without_cycle_search() -> Iterator[None]:
    """Keep Python from looking for cycles: there are none, and a quarter of the time is saved."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Source:
    """What is left of a stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.batches: Iterator[Batch] = iter(stream.batches)
        self.next = next(self.batches, None)
        self.num_in_flight = 0
        self.is_timed = False
        """Whether the next batch is an event that will come."""

    @property
    def has_room(self) -> bool:
        """Whether the window lets another batch in."""
        return self.stream.window is None or self.num_in_flight < self.stream.window


# When, the order in which it was foreseen, and what to do then.
_Event: TypeAlias = tuple[float, int, Callable[[Any], None], Any]


class _Simulation:
    """The events that are foreseen, and what each does when its time has come."""

    def __init__(self, scenario: Scenario, dispatcher: Dispatcher, keep_rows: bool) -> None:
        self._scenario = scenario
        self._overheads = scenario.overheads
        self._dispatcher = dispatcher
        self._collector = Collector(scenario.nodes, keep_rows)
        self._servers = {name: ModelServer(seats) for name, seats in scenario.servers.items()}
        self._sources = {stream.job: _Source(stream) for stream in scenario.streams}
        self._workers: dict[str, SimulatedWorker] = {}
        self._flows: dict[Key, Flow] = {}
        self._numbers = itertools.count()
        self._notices: list[Notice] = []
        self._now_s = 0.0
        self._events: list[_Event] = []
        self._sequence = itertools.count()
        self._wakes_s = math.inf
        self._is_told = False
        """Whether the dispatcher was told anything since it was asked last."""

    def run(self) -> SimulationResult:
        """Let everything happen, in the order of time."""
        self._foresee_all()
        events = self._events
        while self._is_busy:
            if not events or events[0][0] > self._scenario.longest_s:
                self._give_up()
            self._now_s = events[0][0]
            while events and events[0][0] == self._now_s:
                _, _, handle, subject = heapq.heappop(events)
                handle(subject)
            if self._is_told:
                self._dispatch()
        return self._collector.result(
            self._dispatcher, self._notices, self._scenario.nodes, self._servers
        )

    @property
    def _is_busy(self) -> bool:
        return bool(self._flows) or any(source.next for source in self._sources.values())

    def _foresee_all(self) -> None:
        for name, limit in self._scenario.gates.items():
            self._dispatcher.set_gate(name, limit)
        for node in self._scenario.nodes:
            self._at(node.joins_s, self._join, node)
            if node.leaves_s is not None:
                self._at(node.leaves_s, self._leave, node)
        for change in self._scenario.gate_changes:
            self._at(change.at_s, self._change_gate, change)
        for source in self._sources.values():
            stream = source.stream
            self._dispatcher.job_arrived(stream.job, stream.weight, stream.quota)
            self._at(0.0, self._admit, source)
        self._at(_TICK_S, self._tick, None)

    def _at(self, at_s: float, handle: Callable[[Any], None], subject: Any) -> None:
        heapq.heappush(self._events, (at_s, next(self._sequence), handle, subject))

    def _give_up(self) -> None:
        waiting = [key for key in self._flows if key in self._dispatcher.queue]
        story = self._dispatcher.why(waiting[0], self._now_s) if waiting else ["nothing waits"]
        raise RunError(
            f"the simulation has {len(self._flows)} batches left after {self._now_s:.0f} s of "
            f"{self._scenario.longest_s:g} s, {len(waiting)} of them waiting; the first: "
            f"{story[-1].strip()}; give it the nodes, gates or time that it needs"
        )

    # The scheduler's side

    def _dispatch(self) -> None:
        self._is_told = False
        for start in self._dispatcher.dispatch(self._now_s):
            self._place(start)
        if self._dispatcher.failure is not None:
            raise self._dispatcher.failure
        wakes_s = self._dispatcher.next_wake_s
        if wakes_s is not None and not self._now_s < self._wakes_s <= wakes_s:
            self._wakes_s = wakes_s
            self._at(wakes_s, self._wake, None)

    def _wake(self, _: None) -> None:
        self._is_told = True

    def _tick(self, _: None) -> None:
        self._notices += self._dispatcher.tick(self._now_s)
        self._is_told = True
        self._at(self._now_s + _TICK_S, self._tick, None)

    def _change_gate(self, change: GateChange) -> None:
        self._dispatcher.set_gate(change.gate, change.limit)
        self._is_told = True

    def _admit(self, source: _Source) -> None:
        """Hand over all batches of a stream whose time has come, as far as its window goes."""
        source.is_timed = False
        while source.next is not None and source.has_room:
            if source.next.arrives_s > self._now_s:
                source.is_timed = True
                self._at(source.next.arrives_s, self._admit, source)
                return
            source.num_in_flight += 1
            self._make_ready(Flow(source.stream, source.next, next(self._numbers), self._now_s))
            source.next = next(source.batches, None)

    def _make_ready(self, flow: Flow) -> None:
        """Tell of a task that could run."""
        flow.ready_s = self._now_s
        step, key = flow.step, (flow.number, flow.index)
        self._flows[key] = flow
        self._dispatcher.task_ready(
            TaskView(
                key,
                flow.stream.job,
                step.stage,
                step.demand,
                flow.batch.priority,
                flow.arrived_s,
                self._now_s,
                (flow.number,),
                flow.inputs,
                sum(flow.inputs.values()),
            ),
            self._now_s,
        )
        self._is_told = True

    def _ended(self, attempt: Attempt) -> None:
        """Learn that a task has ended, and go on with its batch."""
        if attempt.is_lost:
            return
        flow, node = attempt.flow, attempt.worker.node.name
        seconds = attempt.ended_s - attempt.started_s
        self._dispatcher.task_ended(attempt.key, self._now_s, seconds=seconds)
        self._is_told = True
        self._collector.ended(attempt)
        del attempt.worker.attempts[attempt.key]
        del self._flows[attempt.key]
        flow.inputs = {node: attempt.step.output_bytes} if attempt.step.output_bytes else {}
        flow.index += 1
        if flow.index < len(flow.batch.steps):
            self._make_ready(flow)
        else:
            self._finish(flow)

    def _finish(self, flow: Flow) -> None:
        self._collector.done(flow, self._now_s)
        source = self._sources[flow.stream.job]
        source.num_in_flight -= 1
        if not source.is_timed:
            self._admit(source)

    def _join(self, node: SimulatedNode) -> None:
        for info in node.infos():
            self._workers[info.address] = SimulatedWorker(info, node)
            self._dispatcher.worker_joined(info, self._now_s)
        self._is_told = True

    def _leave(self, node: SimulatedNode) -> None:
        """Lose a node; what ran there is ready again, and will be told to have ended by nobody."""
        lost: list[Attempt] = []
        for info in node.infos():
            worker = self._workers.pop(info.address)
            keys = self._dispatcher.worker_left(info.address, self._now_s)
            lost += [worker.lose(key, self._now_s) for key in keys]
        for attempt in lost:
            self._collector.ended(attempt)
            self._make_ready(attempt.flow)
        self._is_told = True

    # The workers' side

    def _place(self, start: Start) -> None:
        """Send a task to its worker."""
        flow, worker = self._flows[start.key], self._workers[start.worker]
        self._collector.placed(start.node, flow.step.demand.gates)
        moved = sum(flow.inputs.values()) - flow.inputs.get(start.node, 0)
        reaches_s = self._now_s + self._overheads.start_s + moved / self._overheads.bytes_per_s
        self._begin(worker.send(Attempt(start.key, flow, worker, reaches_s)))

    def _begin(self, attempt: Attempt | None) -> None:
        """Foresee what a task does that has a thread, now or as soon as it is there."""
        if attempt is None:
            return
        attempt.started_s = max(self._now_s, attempt.reaches_s)
        computed_s = attempt.started_s + attempt.step.seconds * attempt.worker.node.slowdown
        handle = self._let_go if attempt.step.server is None else self._request
        self._at(computed_s, handle, attempt)

    def _request(self, attempt: Attempt) -> None:
        """Call the model server; the thread is held until the answer is there."""
        if not attempt.is_lost:
            self._seat(self._server_of(attempt.step).request(attempt))

    def _seat(self, attempt: Attempt | None) -> None:
        if attempt is not None:
            self._at(self._now_s + attempt.step.request_s, self._answer, attempt)

    def _answer(self, attempt: Attempt) -> None:
        self._seat(self._server_of(attempt.step).answer())
        self._let_go(attempt)

    def _server_of(self, step: Step) -> ModelServer:
        server = self._servers.get(step.server or "")
        if server is None:
            raise PlanError(
                f"stage {step.stage!r} calls model server {step.server!r}, but the scenario has "
                f"{listed(self._servers)}; add it to Scenario(servers=...) with its seats"
            )
        return server

    def _let_go(self, attempt: Attempt) -> None:
        """End a task; the scheduler hears of it a little later."""
        if attempt.is_lost:
            return
        attempt.ended_s = self._now_s
        self._begin(attempt.worker.free_thread())
        self._at(self._now_s + self._overheads.report_s, self._ended, attempt)

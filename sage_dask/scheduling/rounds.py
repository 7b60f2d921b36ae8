"""One round of decisions: everything that can start now, best first.

The line whose head is first by order moves, until none can.  Lines are kinds of
demand, a few in number, and within one the first task is known, so no round looks
at all tasks or all jobs.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

from sage_dask.scheduling.books import Books
from sage_dask.scheduling.cluster_view import LineView
from sage_dask.scheduling.guard import GuardedPolicy
from sage_dask.scheduling.ledger import Lease
from sage_dask.scheduling.nodes import Worker
from sage_dask.scheduling.policy import Wait
from sage_dask.scheduling.queue import Entry, Lane, Line, Order
from sage_dask.scheduling.reservation import Reservations
from sage_dask.scheduling.servers import Servers
from sage_dask.scheduling.statistics import Decision, Start
from sage_dask.scheduling.waits import GATE, NODE, POLICY, SCHEDULING, between

# Decisions that are kept to be looked at.
_LATEST = 64


class Rounds(Books):
    """Decides, by a policy, from what the books say.

    Args:
        policy: Who chooses.
        saturation: Tasks that a worker is given per thread.
        patience_s: How long the first task of all may be blocked before a place is kept for it.
        num_stories: Tasks whose stories are kept.
        servers: Model servers that are known already.
    """

    def __init__(
        self,
        policy: GuardedPolicy,
        saturation: float,
        patience_s: float,
        num_stories: int,
        servers: Servers,
    ) -> None:
        super().__init__(saturation, num_stories, servers)
        self._policy = policy
        self._reservations = Reservations(self.nodes, self.gates, patience_s)
        self._waiting_lines: list[Line] = []
        self._decisions: Counter[str] = Counter()
        self._num_decisions = 0
        self._num_reserved = 0
        self._latest: deque[Decision] = deque(maxlen=_LATEST)
        self._held_lanes: set[Lane] = set()
        """Lanes whose clocks may have been stopped by their job."""

    def _decide_all(self, starts: list[Start], now_s: float) -> None:
        if not self.queue:
            # What changed of nodes and jobs can wait until it matters.
            self._reservations.clear()
            self._note_waits(now_s)
            return
        self._forget_waits()
        for job in self._changed_jobs:
            self.queue.reorder(job)
        self._changed_jobs.clear()
        self._rank_nodes(now_s)
        self._serve_reservation(starts, now_s)
        while self.queue and (line := self._first_line(self._can_move)) is not None:
            self._decide(line, line.head, starts, now_s)
        if self.queue and self._reserve(now_s):
            self._serve_reservation(starts, now_s)
        self._note_waits(now_s)

    def _note_waits(self, now_s: float) -> None:
        """Have the clocks say what tasks wait for from now on."""
        for line in self.queue.lines.values():
            line.clock.turn(self._waits_for(line), now_s)
        restricted = {
            lane for job in self.jobs if job.is_restricted for lane in self.queue.lanes_of(job.name)
        }
        if not restricted and not self._held_lanes:
            return
        for lane in restricted | self._held_lanes:
            is_held = lane in restricted and lane.job.name not in lane.line.lanes and lane.size > 0
            lane.hold_back(is_held, now_s)
        self._held_lanes = restricted

    def _waits_for(self, line: Line) -> str:
        """Return what a line's tasks wait for, after a round."""
        gates, endpoints = line.demand.gates, line.demand.endpoints
        if not line.lanes:
            return SCHEDULING
        if line.wait is not None:
            return POLICY
        if not self.gates.have_room(gates) or (endpoints and not self.backlog.has_room(endpoints)):
            return GATE
        return NODE if not line.pool.ranked else POLICY

    def _reserve(self, now_s: float) -> bool:
        """Keep a place for the first of the lines that have been blocked since their turn came."""
        first = self._first_line(self._is_blocked)
        if first is not None and first.blocked_since_s is None:
            first.blocked_since_s = now_s
        since = [
            line.blocked_since_s
            for line in self.queue.lines.values()
            if line.blocked_since_s is not None and self._keeps_its_turn(line, first)
        ]
        due = self._first_line(lambda line: self._reservations.is_due(line, now_s))
        is_new = self._reservations.note(due, min(since, default=None))
        kept = self._reservations.entry
        if is_new and kept is not None:
            why = f"it is first, and was blocked for {self._reservations.patience_s:g} s"
            self.stories.add(kept.task.key, now_s, "a place is kept for it", why)
        return is_new

    def _keeps_its_turn(self, line: Line, first: Line | None) -> bool:
        """Return whether a line is still blocked and in the first class; else its patience ends.

        Within a class jobs take turns by their shares, which is no new start for anybody.
        """
        if (
            first is not None
            and line.lanes
            and self._is_blocked(line)
            and line.lanes.first_key[0] <= first.lanes.first_key[0]
        ):
            return True
        line.blocked_since_s = None
        return False

    def _forget_waits(self) -> None:
        """Ask the policy again about all that it left waiting."""
        for line in self._waiting_lines:
            line.wait = None
        self._waiting_lines.clear()

    def _first_line(self, is_eligible: Callable[[Line], bool]) -> Line | None:
        """Return the line whose head is first by order; lines are as few as kinds of demand."""
        first: Line | None = None
        smallest: Order | None = None
        for line in self.queue.lines.values():
            if line.lanes and is_eligible(line):
                order = line.lanes.first_key
                if smallest is None or order < smallest:
                    first, smallest = line, order
        return first

    def _can_move(self, line: Line) -> bool:
        gates, endpoints = line.demand.gates, line.demand.endpoints
        return (
            len(line.pool.ranked) > 0
            and line.wait is None
            and (not gates or self.gates.have_room(gates))
            and (not endpoints or self.backlog.has_room(endpoints))
            and not self._reservations.closes(line.demand)
        )

    def _is_blocked(self, line: Line) -> bool:
        """Return whether a line waits for others to end, and not for its policy or for ever.

        Nor for a server that is down: what would be kept for it meanwhile, others can use.
        """
        if line.wait is not None or not self._is_possible(line):
            return False
        endpoints = line.demand.endpoints
        return not endpoints or self.backlog.is_open(endpoints)

    def _is_possible(self, line: Line) -> bool:
        """Return whether a line's tasks can start once all that others hold has come back."""
        demand = line.demand
        gates = all(self.gates[name].could_ever(slots) for name, slots in demand.gates)
        servers = not demand.endpoints or self.servers.capacity(demand.endpoints) > 0
        return gates and servers and self.nodes.have_running(line.pool)

    def _decide(self, line: Line, entry: Entry, starts: list[Start], now_s: float) -> None:
        """Ask the policy about a task for which there is room."""
        view = LineView(line, self.nodes, self.durations, now_s)
        answer = self._policy.place(entry.task, view)
        if isinstance(answer, Wait):
            line.wait = answer
            self._waiting_lines.append(line)
            return
        worker = self.nodes[answer.node].worker_for(line.demand.fit)
        assert worker is not None  # noqa: S101 - the guard saw that the node can take it
        self._start(entry, worker, answer.reason, starts, now_s)

    def _serve_reservation(self, starts: list[Start], now_s: float) -> None:
        """Start the task for which a place is kept, if all it needs has come together."""
        entry = self._reservations.entry
        if entry is None:
            return
        line, demand = entry.lane.line, entry.task.demand
        is_wanted = entry.is_waiting and entry.lane.job.may_hold(demand)
        if not is_wanted or not self._is_blocked(line):
            self._reservations.clear()
            self._rank_nodes(now_s)
            return
        worker = self._reservations.collect(demand.fit)
        self._rank_nodes(now_s)
        if not self.gates.have_room(demand.gates) or not (worker or line.pool.ranked):
            return
        if demand.endpoints and not self.backlog.has_room(demand.endpoints):
            return
        # All is there, and nobody else is asked before it: the policy may choose among all nodes.
        self._reservations.clear()
        self._rank_nodes(now_s)
        self._decide(line, entry, starts, now_s)
        self._num_reserved += not entry.is_waiting

    def _start(
        self, entry: Entry, worker: Worker, reason: str, starts: list[Start], now_s: float
    ) -> None:
        task, job = entry.task, entry.lane.job
        self._num_decisions += 1
        self._decisions[self._policy.name] += 1
        charged_s = self.nodes.take(worker, task, self._num_decisions, now_s)
        self._open(Lease(task, worker.address, worker.node, now_s, charged_s), job)
        entry.lane.line.blocked_since_s = None
        waits = between(entry.mark, entry.lane.waited(now_s))
        self.queue.remove(task.key)
        self.stories.add(task.key, now_s, f"started on {worker.node}", reason)
        # Told before nodes are ranked again: a policy that raises there must not swallow a start.
        starts.append(Start(task.key, worker.address, worker.node, reason, waits))
        self._latest.append(Decision(now_s, task.key, task.job, task.stage, worker.node, reason))
        if self.nodes[worker.node].in_flight == 1:
            # Whoever was to wait until a node is open has one now.
            self._forget_waits()
        if self.queue:
            self._rank_nodes(now_s)

    def _rank_nodes(self, now_s: float) -> None:
        try:
            self.nodes.refresh(self._policy.rank, now_s)
        except TypeError as error:
            self._policy.fail(f"gave nodes ranks that can not be compared: {error}", error)

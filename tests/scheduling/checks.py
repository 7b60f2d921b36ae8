"""What must hold of a dispatcher after each step, seen from outside.

Counts are compared with those of a :class:`TrueState`; of the dispatcher itself only
its decisions are read: what it started, and for whom it keeps a place.
"""

from __future__ import annotations

from sage_dask.scheduling.dispatcher import Dispatcher
from sage_dask.scheduling.fifo import Fifo
from sage_dask.scheduling.load_aware import Pack
from sage_dask.scheduling.policy import Policy
from sage_dask.scheduling.priority import Priority
from sage_dask.scheduling.queue import Entry
from sage_dask.scheduling.statistics import Start
from sage_dask.scheduling.view import Demand, Key, TaskView
from tests.scheduling.model import EPSILON, TrueState, TrueWorker

PATIENCE_S = 1.0

# A run lasts as long as its stage's name says.
DURATIONS_S = {"embed": 0.05, "retrieve": 0.4, "generate": 2.0}
LONGEST_S = max(DURATIONS_S.values())


class Checks:
    """Follows a dispatcher's instructions, and checks each and all of them."""

    core: Dispatcher

    def __init__(self) -> None:
        super().__init__()
        self.true = TrueState()
        self.num_tasks = 0
        self.reserved: Key | None = None
        self.reserved_since_s = 0.0
        self.oldest: Key | None = None
        self.oldest_since_s = 0.0

    def note_disturbance(self) -> None:
        """Start the clocks of bounds anew, which hold while nobody changes the cluster."""
        self.reserved_since_s, self.oldest = self.true.now_s, None

    def follow(self, start: Start) -> None:
        """Start a task, after a look at whether that is allowed."""
        true = self.true
        assert start.key in true.waiting, f"{start.key} starts but does not wait"
        assert start.worker in true.workers, f"{start.key} starts on a worker that is gone"
        task, worker = true.waiting[start.key], true.workers[start.worker]
        assert worker.info.node == start.node
        assert true.has_room(worker, task.demand), f"{start.key}: no room on {worker}"
        assert true.gates_have_room(task.demand), f"{start.key}: a gate is full"
        assert true.quota_has_room(task), f"{start.key}: job {task.job} is at its quota"
        assert self._servers_have_room(task.demand, EPSILON), f"{start.key}: enough requests"
        assert start.reason, "a start without a reason"
        waited_s = true.now_s - true.waiting_since[start.key]
        assert abs(sum(start.waits.values()) - waited_s) < EPSILON, f"{start} for {waited_s} s"
        assert all(seconds >= 0 for seconds in start.waits.values())
        if (pack := _packing(self.core.policy)) is not None and start.reason.count("kept for") == 0:
            self._check_opening(task, worker, pack)
        true.start(start.key, start.worker, DURATIONS_S[task.stage])

    def check(self) -> None:
        """Check all that must hold once everything is dispatched."""
        self._check_counts()
        self._check_reservation()
        self._check_work_conservation()
        self._check_patience()
        wake_s = self.core.next_wake_s
        assert wake_s is None or wake_s > self.true.now_s, "would be asked again at once, for ever"

    def _check_counts(self) -> None:
        """Each task is in one place, and the dispatcher believes the same."""
        core, true = self.core, self.true
        places = [
            set(true.waiting),
            set(true.running),
            set(true.lost),
            true.ended,
            set(true.withdrawn),
        ]
        assert sum(map(len, places)) == len(set().union(*places)) == self.num_tasks
        assert {entry.task.key for entry in core.queue.entries()} == set(true.waiting)
        running = {key: lease.worker for key, lease in core.ledger.running.items()}
        assert running == {key: hold.worker for key, hold in true.running.items()}
        assert set(core.ledger.abandoned) == set(true.abandoned)
        for name in true.gates:
            assert abs(core.gates[name].held - true.held_of_gate(name)) < EPSILON
        for job in core.jobs:
            for name, amount in job.held.items():
                assert abs(amount - true.held_by_job(job.name, name)) < EPSILON
        told = {name: lease.outstanding for name, lease in core.ledger.running.items()}
        assert told == {name: hold.told for name, hold in true.running.items()}
        told = {where: lease.outstanding for where, lease in core.ledger.abandoned.items()}
        assert told == {where: hold.told for where, hold in true.abandoned.items()}
        core.validate()

    def _check_reservation(self) -> None:
        """A place is kept for one task at most, which can have it, and gets it in time."""
        entry = self._reserved_entry()
        key = entry.task.key if entry is not None else None
        if key != self.reserved:
            self.reserved, self.reserved_since_s = key, self.true.now_s
        keeping = [w for w in self.core.nodes.workers.values() if w.withheld]
        if entry is None:
            assert not keeping, f"{keeping[0].address} keeps {keeping[0].withheld} for nobody"
            return
        wanted = dict(entry.task.demand.fit.amounts)
        assert len(keeping) <= 1
        assert all(worker.withheld <= wanted.keys() for worker in keeping)
        task = self.true.waiting[entry.task.key]
        is_blocked = self.true.is_possible(task.demand) and self.true.is_open(task.demand)
        assert is_blocked, f"a place is kept for {task}, which can not go"
        # Each resource can be short once more, until it is kept too; so can the gates, once, and
        # room for requests.
        more = bool(task.demand.gates) + bool(task.demand.endpoints)
        bound_s = (len(wanted) + more) * LONGEST_S
        if (pack := _packing(self.core.policy)) is not None:
            bound_s += pack.target_wait_s
        waited_s = self.true.now_s - self.reserved_since_s
        assert waited_s <= bound_s + EPSILON, f"{task} has had a reservation for {waited_s} s"

    def _check_patience(self) -> None:
        """Under ``fifo``, the oldest task is blocked for as long as patience lasts, not longer.

        The other policies' order depends on fair shares, which no simple model can tell.
        """
        true = self.true
        able = [
            task
            for task in true.waiting.values()
            if true.is_possible(task.demand)
            and true.is_open(task.demand)
            and true.quota_has_room(task)
            and not self._yields_within_its_job(task)
        ]
        first_s = min((task.arrived_s for task in able), default=0.0)
        oldest = [task.key for task in able if task.arrived_s == first_s]
        if len(oldest) != 1 or not isinstance(self.core.policy, Fifo) or self.reserved is not None:
            self.oldest = None
        elif oldest[0] != self.oldest:
            self.oldest, self.oldest_since_s = oldest[0], true.now_s
        else:
            blocked_s = true.now_s - self.oldest_since_s
            assert blocked_s + EPSILON < PATIENCE_S, (
                f"{oldest[0]} is first, and blocked for {blocked_s} s"
            )

    def _check_work_conservation(self) -> None:
        """No task waits that could start, but for a reservation or by the word of ``pack``."""
        for task in self.true.waiting.values():
            if not self._servers_have_room(task.demand, -EPSILON):
                continue
            workers = self.true.workers_for(task)
            if task.key != self.reserved:
                workers = [w for w in workers if not self._is_kept_from(task, w)]
            if workers and not (self._may_wait(task, workers) or self._yields_within_its_job(task)):
                raise AssertionError(f"{task} waits though {workers} have room: {self._why(task)}")

    def _yields_within_its_job(self, task: TaskView) -> bool:
        """Return whether a task leaves some of its job's quota to one that is before it there."""
        true, place = self.true, self.core.queue[task.key].place
        wanted = {name for name, _ in task.demand.amounts}
        quota = true.quota(task.job)
        return any(
            wanted & true.above_quota(other)
            for other in true.waiting.values()
            if other.job == task.job
            and self.core.queue[other.key].place < place
            and all(amount <= quota.get(name, amount) for name, amount in other.demand.amounts)
        )

    def _check_opening(self, task: TaskView, chosen: TrueWorker, pack: Pack) -> None:
        """``pack`` opens a node only if no open one has room, and waiting would take too long."""
        true = self.true
        if not true.is_closed(chosen.info.node, pack.stay_open_s):
            return
        able = [w for w in true.workers_for(task) if not self._was_kept_from(task, w)]
        still_open = [w for w in able if not true.is_closed(w.info.node, pack.stay_open_s)]
        assert not still_open, f"opened {chosen} though {still_open} are open and have room"
        busy = {
            w.info.node
            for w in true.workers.values()
            if w.supplies(task.demand) and true.in_flight(w.info.node)
        }
        if not busy or true.now_s >= task.ready_s + pack.target_wait_s:
            return
        queued = [t for t in true.waiting.values() if t.demand == task.demand]
        queued_s = sum(self.core.durations.estimate_s(t.stage) for t in queued)
        wait_s = queued_s / sum(map(true.threads_of, busy))
        assert wait_s > pack.target_wait_s - EPSILON, f"opened {chosen} for a wait of {wait_s} s"

    def check_nothing_is_left(self) -> None:
        """Once all is over, nothing is held, counted or kept."""
        core = self.core
        core.tick(self.true.now_s)
        assert not len(core.ledger)
        assert not len(core.queue)
        assert not list(core.jobs)
        assert self._reserved_entry() is None
        assert all(abs(gate.held) < EPSILON for gate in core.gates)
        assert all(worker.free == worker.capacity for worker in core.nodes.workers.values())

    # What excuses a wait

    def _servers_have_room(self, demand: Demand, tolerance: float) -> bool:
        """Return whether fewer requests are left for a task's servers than there should be."""
        if not demand.endpoints:
            return True
        limits, backlog = self.true.limits, self.core.backlog
        wanted = {url: backlog.wanted((url,)) for url in limits}
        for url, limit in limits.items():
            assert wanted[url] >= 1.5 * limit
            assert limit or not wanted[url]
        there_should_be = sum(wanted[url] for url in demand.endpoints)
        return self.true.outstanding(demand, wanted) < there_should_be + tolerance

    def _reserved_entry(self) -> Entry | None:
        return self.core._reservations.entry

    def _is_kept_from(self, task: TaskView, worker: TrueWorker) -> bool:
        """Return whether a reservation forbids a task a gate, or this worker."""
        entry = self._reserved_entry()
        if entry is not None:
            kept = dict(entry.task.demand.gates).keys()
            if any(name in kept for name, _ in task.demand.gates):
                return True
        return self._was_kept_from(task, worker)

    def _was_kept_from(self, task: TaskView, worker: TrueWorker) -> bool:
        withheld = self.core.nodes.workers[worker.address].withheld
        return any(name in withheld for name, _ in task.demand.fit.amounts)

    def _may_wait(self, task: TaskView, workers: list[TrueWorker]) -> bool:
        """Return whether ``pack`` may leave a task waiting though these workers have room.

        It may while another node that could take it is busy, none that is open has room, and one
        of those that need the same has waited for less than the target; then it is asked again.
        """
        pack = _packing(self.core.policy)
        if pack is None:
            return False
        true = self.true
        if not all(true.is_closed(w.info.node, pack.stay_open_s) for w in workers):
            return False
        is_busy = any(
            w.supplies(task.demand) and true.in_flight(w.info.node) for w in true.workers.values()
        )
        alike = [t for t in true.waiting.values() if t.demand == task.demand]
        until_s = max(t.ready_s for t in alike) + pack.target_wait_s
        wake_s = self.core.next_wake_s
        is_asked_again = wake_s is not None and wake_s <= until_s + EPSILON
        return is_busy and is_asked_again and true.now_s < until_s

    def _why(self, task: TaskView) -> str:
        return "; ".join(self.core.why(task.key, self.true.now_s))


def _packing(policy: Policy) -> Pack | None:
    """Return the policy if it packs, by itself or for another."""
    inner = policy.place_by if isinstance(policy, Priority) else policy
    return inner if isinstance(inner, Pack) else None
